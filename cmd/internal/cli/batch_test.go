//go:build unix

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ossify/pipeline"
	"ossify/pull/hubtest"
)

var (
	batchRequests = flag.Int("batch-requests", 12, "of the comparison of batch with serve")
	batchKills    = flag.Int("batch-kills", 1, "times that batch is killed in it")
)

// batchLines returns requests of many kinds, of which one in twenty is wrong, and
// how many are.
func batchLines(n int) (lines []string, wrong int) {
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 15))
		text := strings.Repeat("some words of a prompt ", 1+r.IntN(20)) + fmt.Sprint(r.IntN(10))
		sampling := fmt.Sprintf(`"temperature":%g,"top_p":%g,"seed":%d`, float64(r.IntN(3))/2, 1-float64(r.IntN(2))/5, i)
		most := 1 + r.IntN(24)
		url, body := "/v1/chat/completions", ""
		switch r.IntN(4) {
		case 0:
			url, body = "/v1/responses", fmt.Sprintf(`{"model":"m","input":%q,"max_output_tokens":%d,"store":false,%s}`, text, most, sampling)
		case 1:
			url, body = "/v1/completions", fmt.Sprintf(`{"model":"m","prompt":%q,"max_tokens":%d,"logprobs":2,%s}`, text, most, sampling)
		case 2:
			body = fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}],"max_tokens":%d,"response_format":{"type":"json_object"},"frequency_penalty":0.5,%s}`, text, most, sampling)
		default:
			body = fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}],"max_tokens":%d,"n":%d,%s}`, text, most, 1+r.IntN(2), sampling)
		}
		line := fmt.Sprintf(`{"custom_id":"r%d","method":"POST","url":%q,"body":%s}`, i, url, body)
		if i%20 == 3 {
			wrong++
			switch i / 20 % 5 {
			case 0:
				line = line[:len(line)/2]
			case 1:
				line = strings.Replace(line, "POST", "PUT", 1)
			case 2:
				line = strings.Replace(line, `"top_p":`, `"top_p":7`, 1)
			case 3:
				line = strings.Replace(line, `"r`, `"r`+"\xff", 1)
			case 4:
				line = strings.Replace(line, fmt.Sprintf(`"r%d"`, i), `"r0"`, 1)
			}
		}
		lines = append(lines, line)
	}
	return lines, wrong
}

// What may differ from run to run: ids, times, and what others had computed.
var varying = regexp.MustCompile(`"(?:id|item_id|created|created_at|completed_at|cached_tokens)":(?:"[^"]*"|[0-9]+)`)

func steady(answer []byte) string { return varying.ReplaceAllString(string(answer), "*") }

// A lockedBuffer is written by a command that a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// served starts serve and returns its address.
func served(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var errs lockedBuffer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx, append([]string{"serve", "--addr", "127.0.0.1:0", "--log", "off"}, args...), strings.NewReader(""), io.Discard, &errs)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	address := regexp.MustCompile(`at (http://[0-9.:]+)`)
	for {
		if m := address.FindStringSubmatch(errs.String()); m != nil {
			return m[1]
		}
		select {
		case <-ended:
			t.Fatalf("serve: %s", errs.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A batchLine is a line of output or errors.
type batchLine struct {
	CustomID *string `json:"custom_id"`
	Response *struct {
		Status int             `json:"status_code"`
		Body   json.RawMessage `json:"body"`
	} `json:"response"`
	Error *struct{ Code string } `json:"error"`
}

func readBatch(t *testing.T, files ...string) (lines []batchLine) {
	t.Helper()
	for _, name := range files {
		for line := range bytes.Lines(must(os.ReadFile(name))) {
			var l batchLine
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// answeredLines counts what a batch has written.
func answeredLines(out string) (finished, parts int) {
	for pattern, n := range map[string]*int{"output-*.jsonl": &finished, filepath.Join("parts", "*"): &parts} {
		names, _ := filepath.Glob(filepath.Join(out, pattern))
		for _, name := range names {
			text, _ := os.ReadFile(name) // it may be gone by now
			*n += bytes.Count(text, []byte("\n"))
		}
	}
	return finished, parts
}

// A batch on Prism, killed and run again, gives the answers of serve, and a line
// for each that is wrong.
func TestBatchAsServed(t *testing.T) {
	runner := local
	if !testing.Short() && beamInPath(t) {
		runner = pipeline.Prism
	}
	dir := talking(t)
	lines, wrong := batchLines(*batchRequests)
	in := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(in, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	args := []string{"batch", dir, "--in", in, "--out", out, "--name", "m", "--runner", runner, "--shard", fmt.Sprint(max(8, *batchRequests/20)), "--json"}
	src := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for i := range *batchKills {
		// The moment is one of the work's, not of the clock's: each kill has some of
		// the lines before it, and the last leaves some.
		after := int(0.8 * float64(*batchRequests) * (float64(i) + src.Float64()) / float64(*batchKills))
		p := start(t, nil, args...)
		finished, parts := 0, 0
		for finished+parts < max(1, after) {
			select {
			case <-p.waited:
				t.Fatalf("kill %d: ended with %d lines in whole shards, %d in parts, want %d or more and a running process: %s", i+1, finished, parts, after, p.errs.String())
			case <-time.After(2 * time.Millisecond):
			}
			finished, parts = answeredLines(out)
		}
		p.Process.Kill()
		<-p.waited
		t.Logf("kill %d, after %d lines: %d lines in whole shards, %d in parts", i+1, after, finished, parts)
	}
	p := start(t, nil, args...)
	p.exit(t, 0, "")

	address := served(t, dir, "--name", "m")
	answers := map[string]batchLine{}
	names, _ := filepath.Glob(filepath.Join(out, "output-*.jsonl"))
	errors, _ := filepath.Glob(filepath.Join(out, "errors-*.jsonl"))
	failed := 0
	for i, l := range readBatch(t, append(slices.Clone(names), errors...)...) {
		switch {
		case l.CustomID == nil:
			failed++
			continue
		case l.Error != nil:
			failed++
		case l.Response.Status != 200:
			failed++
		}
		if l.Error != nil && l.Error.Code == "duplicate_custom_id" {
			continue
		}
		if _, twice := answers[*l.CustomID]; twice {
			t.Errorf("line %d: %s is answered twice", i, *l.CustomID)
		}
		answers[*l.CustomID] = l
	}
	if failed != wrong {
		t.Errorf("%d errors, want %d", failed, wrong)
	}
	if left, _ := filepath.Glob(filepath.Join(out, "parts*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	compared := 0
	for i, line := range lines {
		var q struct {
			CustomID string          `json:"custom_id"`
			Method   string          `json:"method"`
			URL      string          `json:"url"`
			Body     json.RawMessage `json:"body"`
		}
		if json.Unmarshal([]byte(line), &q) != nil || q.Method != "POST" || q.CustomID != fmt.Sprintf("r%d", i) {
			continue // wrong, and so not sent
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r, err := http.Post(address+q.URL, "application/json", bytes.NewReader(q.Body))
			if err != nil {
				t.Error(err)
				return
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			got, ok := answers[q.CustomID]
			if err != nil || !ok || got.Response == nil {
				t.Errorf("%s: %v, answered %v: %+v", q.CustomID, err, ok, got)
				return
			}
			compared++
			if got.Response.Status != r.StatusCode || steady(got.Response.Body) != steady(body) {
				t.Errorf("%s: batch %d %s\nserve %d %s", q.CustomID, got.Response.Status, got.Response.Body, r.StatusCode, body)
			}
		})
	}
	wg.Wait()
	if compared < *batchRequests*9/10 {
		t.Errorf("%d answers were compared", compared)
	}
	t.Logf("%d requests: %d wrong lines, %d answers the same as served", len(lines), wrong, compared)
}

func TestBatchRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tiny")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", dir); code != 0 {
		t.Fatal(stderr)
	}
	in := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(in, []byte("{}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"batch DIR --out x", 2, "no --in"},
		{"batch DIR --in IN", 2, "no --out"},
		{"batch DIR --in IN --out x --shard 0", 2, "1 to 4096"},
		{"batch DIR --in IN --out x --active 0", 2, "--active 0"},
		{"batch DIR --in IN --out x --max-line -1", 2, "--max-line"},
		{"batch DIR --in IN --out x --cache 0", 2, "gigabytes"},
		{"batch DIR --in IN --out x --threads -1", 2, "0 or more"},
		{"batch DIR --in IN --out x --runner storm", 2, "want one of local"},
		{"batch DIR --in IN --out x --runner local --endpoint h:1", 2, "--endpoint is of"},
		{"batch DIR --in IN --out x --runner local --beam-option a=b", 2, "--beam-option is of Beam"},
		{"batch DIR --in IN --out x --revision a", 2, "--pull"},
		{"batch DIR --in IN --out x", 1, "201088 of o200k_harmony"},
		{"batch NONE --in IN --out x", 1, "NONE"},
	} {
		args := strings.Fields(c.args)
		for i, a := range args {
			args[i] = strings.NewReplacer("DIR", dir, "IN", in).Replace(a)
		}
		if code, stdout, stderr := ossify(t, "", args...); code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %q, want %d, %q", c.args, code, stderr, c.code, c.want)
		}
	}
}

// Workers that do not find the checkpoint pull it from the hub, and compare its hash.
func TestBatchPulls(t *testing.T) {
	dir := talking(t)
	hub := hubtest.New(t)
	hub.Files = map[string][]byte{}
	for _, e := range must(os.ReadDir(dir)) {
		hub.Files["original/"+e.Name()] = must(os.ReadFile(filepath.Join(dir, e.Name())))
	}
	hub.Token = "secret"
	t.Setenv("HF_ENDPOINT", hub.Hub.URL)
	t.Setenv("HF_TOKEN", "secret")
	work := t.TempDir()
	in, pulled := filepath.Join(work, "in.jsonl"), filepath.Join(work, "pulled")
	if err := os.WriteFile(in, []byte(`{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"a","max_tokens":3}}`+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	args := func(out string) []string {
		return []string{"batch", dir, "--name", "m", "--in", in, "--out", filepath.Join(work, out), "--runner", "local", "--pull", hubtest.Repo, "--original", "--checkpoint-at", pulled}
	}
	code, stdout, stderr := ossify(t, "", args("one")...)
	if code != 0 || !strings.Contains(stdout, "1 lines: 1 answered, 0 errors") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	for name, data := range hub.Files {
		if !bytes.Equal(must(os.ReadFile(filepath.Join(pulled, filepath.Base(name)))), data) {
			t.Errorf("%s is not the hub's", name)
		}
	}
	asked := hub.Requests.Load()
	if code, _, stderr := ossify(t, "", args("two")...); code != 0 || hub.Requests.Load() != asked {
		t.Errorf("again: exit code %d, %s, the hub is asked %d times", code, stderr, hub.Requests.Load()-asked)
	}
	// The hub's is another one than that which the command was given.
	if err := os.RemoveAll(pulled); err != nil {
		t.Fatal(err)
	}
	config := hub.Files["original/config.json"]
	hub.Files["original/config.json"] = append(bytes.Clone(config), '\n')
	if code, stdout, stderr := ossify(t, "", args("three")...); code != 1 || stdout != "" || !strings.Contains(stderr, "it is another checkpoint") {
		t.Errorf("another checkpoint: exit code %d, %q, %s", code, stdout, stderr)
	}
}
