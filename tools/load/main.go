// Command load asks a server of OpenAI's API by many clients at once, and prints
// how long they wait.
//
//	load URL MODEL                          64 clients, 20 requests each
//	load -alone URL MODEL                   each also one at a time: the answers must be the same
//	load -clients 1,8 -rounds 3 URL MODEL   in turns, and their ratio
//	load -hostile 500 -pid PID URL MODEL    clients that mean harm, and the server's peak memory
//
// It exits with 1 after an error, or where an answer differs.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type options struct {
	url, model, key string
	path            string
	requests        int
	words, tokens   int
	fixed           bool
	prompts         []string
	seed            uint64
}

func main() {
	var o options
	clients := flag.String("clients", "64", "how many ask at once; several numbers take turns")
	rounds := flag.Int("rounds", 1, "turns of each number of clients")
	alone := flag.Bool("alone", false, "ask all of it one at a time first: the answers must be the same")
	hostileClients := flag.Int("hostile", 0, "clients that mean harm, instead")
	length := flag.Duration("for", 20*time.Second, "how long hostile clients go on")
	pid := flag.Int("pid", 0, "the server's process, whose peak memory is printed (Linux)")
	prompts := flag.String("prompts", "", "file of prompts, one a line; words at random unless given")
	flag.StringVar(&o.key, "key", "", "API key")
	flag.StringVar(&o.path, "path", "/v1/chat/completions", "what to ask: this, or /v1/completions")
	flag.IntVar(&o.requests, "requests", 20, "of each client")
	flag.IntVar(&o.words, "words", 60, "of a prompt, at most")
	flag.IntVar(&o.tokens, "tokens", 64, "of an answer, at most")
	flag.BoolVar(&o.fixed, "fixed", false, "all prompts and answers as long as they may be")
	flag.Uint64Var(&o.seed, "seed", 1, "of lengths, words and answers")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "load: want URL and MODEL; see -help")
		os.Exit(2)
	}
	o.url, o.model = strings.TrimSuffix(flag.Arg(0), "/"), flag.Arg(1)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *prompts != "" {
		var data []byte
		if data, err = os.ReadFile(*prompts); err == nil {
			o.prompts = strings.Split(strings.TrimSpace(string(data)), "\n")
		}
	}
	if err == nil && *hostileClients > 0 {
		err = hostile(ctx, &o, *hostileClients, *length)
	} else if err == nil {
		err = o.turns(ctx, *clients, *rounds, *alone)
	}
	if *pid > 0 {
		if peak, e := peakMemory(*pid); e != nil {
			err = e
		} else {
			fmt.Printf("peak memory of the server: %s\n", peak)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// peakMemory returns the most memory that a process had.
func peakMemory(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("process %d tells no peak", pid)
}

// turns asks with each number of clients, round by round.
func (o *options) turns(ctx context.Context, clients string, rounds int, alone bool) error {
	var numbers []int
	for _, text := range strings.Split(clients, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-clients %s, want numbers above 0", clients)
		}
		numbers = append(numbers, n)
	}
	var want []answer
	if alone {
		for _, n := range numbers[1:] {
			if n != numbers[0] {
				return fmt.Errorf("-alone takes one number of clients")
			}
		}
		want = o.ask(ctx, 1, numbers[0]*o.requests)
		if err := report("one at a time", 1, want, nil); err != nil {
			return err
		}
	}
	speeds := map[int][]float64{}
	for range max(rounds, 1) {
		for _, n := range numbers {
			got := o.ask(ctx, n, n*o.requests)
			if err := report("", n, got, want); err != nil {
				return err
			}
			speeds[n] = append(speeds[n], speed(got))
		}
	}
	if len(numbers) > 1 {
		base := middle(speeds[numbers[0]])
		for _, n := range numbers[1:] {
			fmt.Printf("%d clients: %.2f times the tokens of %d (medians of %d)\n", n, middle(speeds[n])/base, numbers[0], rounds)
		}
	}
	return nil
}

// An answer is what came of a request, and when.
type answer struct {
	text    string // all that was said
	tokens  int
	begun   time.Time
	ended   time.Time
	first   time.Duration
	between []time.Duration
	err     error
}

// ask asks n requests by so many clients.
func (o *options) ask(ctx context.Context, clients, n int) []answer {
	all := make([]answer, n)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n; i += clients {
				all[i] = o.one(ctx, client, uint64(i))
			}
		})
	}
	wg.Wait()
	return all
}

// body is a request. The same number gives the same one.
func (o *options) body(i uint64) []byte {
	r := rand.New(rand.NewPCG(o.seed, i))
	words, tokens := o.words, o.tokens
	if !o.fixed {
		words, tokens = 1+r.IntN(words), 1+r.IntN(tokens)
	}
	var prompt strings.Builder
	if len(o.prompts) > 0 {
		prompt.WriteString(o.prompts[i%uint64(len(o.prompts))])
		tokens = o.tokens
	} else {
		for range words {
			fmt.Fprintf(&prompt, "%c%s ", 'a'+r.IntN(26), []string{"re", "at", "ing", "one", "all"}[r.IntN(5)])
		}
	}
	m := map[string]any{"model": o.model, "stream": true, "stream_options": map[string]bool{"include_usage": true}, "temperature": float64(i%3) / 2, "seed": i}
	if strings.HasSuffix(o.path, "/chat/completions") {
		m["messages"] = []any{map[string]string{"role": "user", "content": prompt.String()}}
		m["max_tokens"] = tokens
	} else {
		m["prompt"], m["max_tokens"], m["skip_special_tokens"] = prompt.String(), tokens, false
		if o.fixed {
			m["logit_bias"] = map[string]int{"199999": -100, "200002": -100, "200012": -100} // those that end answers
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// one asks one request, and reads its stream.
func (o *options) one(ctx context.Context, client *http.Client, i uint64) (a answer) {
	a.begun = time.Now()
	defer func() { a.ended = time.Now() }()
	r, err := http.NewRequestWithContext(ctx, "POST", o.url+o.path, bytes.NewReader(o.body(i)))
	if err != nil {
		a.err = err
		return a
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+o.key)
	resp, err := client.Do(r)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		a.err = fmt.Errorf("%s %s", resp.Status, b)
		return a
	}
	var said strings.Builder
	last := time.Time{}
	done := false
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if done = data == "[DONE]"; done {
			continue
		}
		var e struct {
			Error   any
			Choices []struct {
				Text   string
				Finish string `json:"finish_reason"`
				Delta  struct {
					Content, Reasoning string
					Calls              []struct {
						Function struct{ Name, Arguments string }
					} `json:"tool_calls"`
				}
			}
			Usage *struct {
				Completion int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil || e.Error != nil {
			a.err = fmt.Errorf("%v %s", err, data)
			return a
		}
		if e.Usage != nil {
			a.tokens = e.Usage.Completion
		}
		for _, c := range e.Choices {
			text := c.Text + c.Delta.Content
			if c.Delta.Reasoning != "" {
				text += "\x00" + c.Delta.Reasoning
			}
			for _, call := range c.Delta.Calls {
				text += "\x01" + call.Function.Name + call.Function.Arguments
			}
			if c.Finish != "" {
				said.WriteString("\x02" + c.Finish)
			}
			if text == "" {
				continue
			}
			said.WriteString(text)
			now := time.Now()
			if last.IsZero() {
				a.first = now.Sub(a.begun)
			} else {
				a.between = append(a.between, now.Sub(last))
			}
			last = now
		}
	}
	a.text = said.String()
	if a.err = lines.Err(); a.err == nil && !done {
		a.err = fmt.Errorf("the stream ends early")
	}
	return a
}

// report prints what came, and fails after an error or where an answer is not
// the one wanted.
func report(what string, clients int, got, want []answer) error {
	var first, between []time.Duration
	tokens, errs, differ := 0, 0, 0
	var why error
	for i, a := range got {
		if a.err != nil {
			errs++
			why = a.err
			continue
		}
		tokens += a.tokens
		if a.first > 0 {
			first = append(first, a.first)
		}
		between = append(between, a.between...)
		if want != nil && (a.text != want[i].text || a.tokens != want[i].tokens) {
			differ++
		}
	}
	if what == "" {
		what = fmt.Sprintf("%d at once", clients)
	}
	fmt.Printf("%s: %d requests, %d errors, %d tokens, %.1f a second; first after %s; between tokens %s\n", what, len(got), errs, tokens, speed(got), spread(first), spread(between))
	if want != nil {
		fmt.Printf("  %d of %d answers are those of one at a time\n", len(got)-errs-differ, len(got))
	}
	switch {
	case errs > 0:
		return fmt.Errorf("%d errors, the last: %w", errs, why)
	case differ > 0:
		return fmt.Errorf("%d answers differ", differ)
	}
	return nil
}

// speed is tokens a second from the first request's begin to the last's end.
func speed(all []answer) float64 {
	var begun, ended time.Time
	tokens := 0
	for _, a := range all {
		if begun.IsZero() || a.begun.Before(begun) {
			begun = a.begun
		}
		if a.ended.After(ended) {
			ended = a.ended
		}
		tokens += a.tokens
	}
	return float64(tokens) / ended.Sub(begun).Seconds()
}

func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	at := func(p int) time.Duration { return d[min(len(d)*p/100, len(d)-1)].Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v", at(50), at(99))
}

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return (list[len(list)/2] + list[(len(list)-1)/2]) / 2
}
