package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// An attack is what a hostile client sends: parts with a pause before each, and
// whether it reads the answer.
type attack struct {
	name  string
	parts func(r *rand.Rand, o *options) []string
	pause time.Duration
	deaf  bool
}

func request(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// pieces cuts a text into so many.
func pieces(text string, n int) (all []string) {
	for i := range n {
		all = append(all, text[len(text)*i/n:len(text)*(i+1)/n])
	}
	return all
}

// fill repeats a piece up to some 4 MiB.
func fill(piece string) string { return strings.Repeat(piece, (4<<20-4096)/len(piece)) }

func (o *options) chat(more string) string {
	return fmt.Sprintf(`{"model":%q,"max_tokens":64,"messages":[{"role":"user","content":"x"}]%s}`, o.model, more)
}

const chat = "/v1/chat/completions"

var attacks = []attack{
	{name: "a large body that never ends", pause: time.Second, parts: func(r *rand.Rand, o *options) []string {
		return append(pieces(request(chat, o.chat(`,"user":"`+fill("x")+`"`))[:4<<20-8192], 3), slices.Repeat([]string{" "}, 60)...)
	}},
	{name: "large bodies of one text", parts: func(r *rand.Rand, o *options) []string {
		return []string{request(chat, o.chat(`,"user":"`+fill("x")+`"`))}
	}},
	{name: "large bodies of many values", parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/v1/responses", fmt.Sprintf(`{"model":%q,"input":"x","max_output_tokens":64,"tools":[{"type":"function","name":"f","parameters":{"type":"object","x":[%s0]}}]}`, o.model, strings.Repeat("0,", 250_000)))}
	}},
	{name: "large prompts", parts: func(r *rand.Rand, o *options) []string {
		return []string{request(chat, fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"%s"}]}`, o.model, fill("ab ")))}
	}},
	{name: "texts to tokenize", parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/tokenize", `{"prompt":"`+fill("a1")+`"}`)}
	}},
	{name: "answers nobody reads", deaf: true, parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/tokenize", `{"prompt":"`+fill("a1")+`"}`), strings.Repeat(request("/tokenize", `{"prompt":"`+fill("a1")+`"}`), 2)}
	}},
	{name: "ids to detokenize", parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/detokenize", `{"tokens":[`+strings.Repeat("72,", 250_000)+`72]}`)}
	}},
	{name: "headers byte by byte", pause: 500 * time.Millisecond, parts: func(r *rand.Rand, o *options) []string {
		return pieces("GET /health HTTP/1.1\r\nHost: x\r\nX-A: "+strings.Repeat("y", 30<<10), 200)
	}},
	{name: "floods of headers", parts: func(r *rand.Rand, o *options) []string {
		return []string{"GET /health HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 1<<20)}
	}},
	{name: "deep JSON", parts: func(r *rand.Rand, o *options) []string {
		return []string{request(chat, fill(`{"a":[`))}
	}},
	{name: "schemas of many properties", parts: func(r *rand.Rand, o *options) []string {
		var b strings.Builder
		for i := range 9000 {
			fmt.Fprintf(&b, `"%x":{},`, r.Uint64()>>40+uint64(i)<<24)
		}
		return []string{request(chat, o.chat(`,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{`+b.String()+`"z":{}}}}}`))}
	}},
	{name: "schemas of many states", parts: func(r *rand.Rand, o *options) []string {
		return []string{request(chat, o.chat(fmt.Sprintf(`,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"string","pattern":"%x(.|..){400}(.|..){400}$"}}}`, r.Uint64())))}
	}},
	{name: "schemas that refer to themselves", parts: func(r *rand.Rand, o *options) []string {
		var b strings.Builder
		for i := range 60 {
			fmt.Fprintf(&b, `"a%d":{"type":"null"},`, i)
		}
		return []string{request(chat, o.chat(`,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","required":["z"],"properties":{`+b.String()+`"z":{"$ref":"#"}}}}}`))}
	}},
	{name: "responses to store", parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/v1/responses", fmt.Sprintf(`{"model":%q,"input":"x","max_output_tokens":1,"user":"%s"}`, o.model, fill("x")))}
	}},
	{name: "background", parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/v1/responses", fmt.Sprintf(`{"model":%q,"input":"x","background":true,"user":"%s"}`, o.model, fill("x")))}
	}},
	{name: "many choices", parts: func(r *rand.Rand, o *options) []string {
		return []string{request("/v1/completions", fmt.Sprintf(`{"model":%q,"prompt":[%s"a"],"n":16,"logprobs":20,"max_tokens":64}`, o.model, strings.Repeat(`"a",`, 63)))}
	}},
	{name: "streams that are left", parts: func(r *rand.Rand, o *options) []string {
		return []string{request(chat, o.chat(`,"stream":true,"logprobs":true,"top_logprobs":20`))}
	}},
}

// hostile lets so many clients do harm, while one asks as it should and is
// answered, at least with a refusal.
func hostile(ctx context.Context, o *options, clients int, length time.Duration) error {
	u, err := url.Parse(o.url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var mu sync.Mutex
	status := map[string]map[string]int{}
	count := func(name, s string) {
		mu.Lock()
		defer mu.Unlock()
		if status[name] == nil {
			status[name] = map[string]int{}
		}
		status[name][s]++
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(o.seed, uint64(c)))
			for n := 0; ctx.Err() == nil; n++ {
				a := attacks[(c+n*7)%len(attacks)]
				count(a.name, a.do(ctx, u, r, o))
				time.Sleep(time.Millisecond)
			}
		})
	}
	var waits []time.Duration
	good := 0
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := uint64(0); ctx.Err() == nil; i++ {
		begin := time.Now()
		resp, err := client.Get(o.url + "/health")
		if err != nil {
			return fmt.Errorf("/health: %w", err)
		}
		resp.Body.Close()
		if resp.StatusCode == 200 {
			good++
		}
		waits = append(waits, time.Since(begin))
		time.Sleep(50 * time.Millisecond)
	}
	wg.Wait()
	bad := 0
	for _, a := range attacks {
		fmt.Printf("%-34s %v\n", a.name, status[a.name])
		bad += status[a.name]["500"]
	}
	fmt.Printf("/health meanwhile: %d of %d good, %s\n", good, len(waits), spread(waits))
	if bad > 0 || good < len(waits) {
		return fmt.Errorf("%d answers of 500, %d of %d times healthy", bad, good, len(waits))
	}
	return nil
}

// do sends an attack, and returns the answer's status, or what became of it.
func (a *attack) do(ctx context.Context, u *url.URL, r *rand.Rand, o *options) string {
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return "not let in"
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if u.Scheme == "https" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	sent := make(chan bool)
	go func() {
		defer close(sent)
		for _, p := range a.parts(r, o) {
			if _, err := io.WriteString(c, p); err != nil {
				return
			}
			select {
			case <-time.After(a.pause):
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { c.Close(); <-sent }()
	if a.deaf {
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
		return "not read"
	}
	line := make([]byte, 12)
	if _, err := io.ReadFull(c, line); err != nil {
		return "cut off"
	}
	if strings.HasPrefix(a.name, "streams") {
		io.ReadFull(c, make([]byte, r.IntN(2000)))
	}
	return string(line[9:])
}
