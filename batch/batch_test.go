package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ossify/pipeline"
)

var urls = []string{"/v1/chat/completions", "/v1/responses"}

func request(id string, size int) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/responses","body":{"input":%q}}`, id, strings.Repeat("x", size))
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// A fake answers with the body, and counts. A body of 13 letters is refused.
type fake struct {
	mu    sync.Mutex
	asked map[string]int
	stop  func(asked int) // may be nil
}

func (f *fake) answer(_ context.Context, url string, body []byte) (int, []byte) {
	f.mu.Lock()
	if f.asked == nil {
		f.asked = map[string]int{}
	}
	f.asked[string(body)]++
	n := len(f.asked)
	f.mu.Unlock()
	if f.stop != nil {
		f.stop(n)
	}
	if strings.Contains(string(body), `"`+strings.Repeat("x", 13)+`"`) {
		return 400, []byte(`{"error":{"message":"13"}}`)
	}
	return 200, fmt.Appendf(nil, `{"url":%q,"of":%s}`, url, body)
}

// run computes a batch in this process.
func run(ctx context.Context, p *Plan, dir string, files []string, answer Answerer, done func(Finished)) error {
	if _, err := p.Begin(ctx, dir); err != nil {
		return err
	}
	r, err := NewRunner(dir, files, p.Head.URLs, 4, answer, done)
	if err != nil {
		return err
	}
	kind := func(context.Context, []byte) (pipeline.Worker, error) { return r, nil }
	return pipeline.Local(ctx, pipeline.Job{Kind: "batch", Elements: PlanPath(dir), Skip: 1, Parallel: 2}, kind)
}

// A told line is what the files say of one.
type told struct {
	ID       string  `json:"id"`
	CustomID *string `json:"custom_id"`
	Response *struct {
		Status  int             `json:"status_code"`
		Request string          `json:"request_id"`
		Body    json.RawMessage `json:"body"`
	} `json:"response"`
	Error *LineError `json:"error"`

	output bool
}

func read(t *testing.T, dir string) []told {
	t.Helper()
	var all []told
	for _, pattern := range []string{"output-*.jsonl", "errors-*.jsonl"} {
		names, _ := filepath.Glob(filepath.Join(escape(dir), pattern))
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				var l told
				if err := json.Unmarshal([]byte(line), &l); err != nil || !strings.HasSuffix(line, "\n") {
					t.Fatalf("%s: %q: %v", name, line, err)
				}
				l.output = pattern[0] == 'o'
				all = append(all, l)
			}
		}
	}
	return all
}

func TestLines(t *testing.T) {
	const limit = 200
	for _, c := range []struct {
		name, line string
		code, id   string // of the error; "" is an answer
		says       string
	}{
		{"a request", request("a", 1), "", "a", ""},
		{"white space, members in another order", ` { "body" : {} ,"url":"/v1/chat/completions","method":"POST", "custom_id":"a" } ` + "\r", "", "a", ""},
		{"no JSON", `hello`, CodeJSON, "", "not a JSON object"},
		{"half a line", request("a", 1)[:40], CodeJSON, "", "ends early"},
		{"an array", `[1]`, CodeJSON, "", "another type"},
		{"two objects", request("a", 1) + request("b", 1), CodeJSON, "", "follows"},
		{"a key twice", `{"custom_id":"a","custom_id":"b"}`, CodeJSON, "", "twice"},
		{"no UTF-8", strings.Replace(request("a", 1), "x", "\xff", 1), CodeJSON, "", "UTF-8"},
		{"a zero byte", "{\x00}", CodeJSON, "", "JSON"},
		{"no custom_id", `{"method":"POST","url":"/v1/responses","body":{}}`, CodeMissing, "", "custom_id"},
		{"custom_id null", `{"custom_id":null,"method":"POST","url":"/v1/responses","body":{}}`, CodeMissing, "", "custom_id"},
		{"custom_id empty", `{"custom_id":"","method":"POST","url":"/v1/responses","body":{}}`, CodeValue, "", "0 bytes"},
		{"custom_id a number", `{"custom_id":1,"method":"POST","url":"/v1/responses","body":{}}`, CodeValue, "", "no string"},
		{"GET", `{"custom_id":"a","method":"GET","url":"/v1/responses","body":{}}`, CodeValue, "a", "want POST"},
		{"another url", `{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}`, CodeURL, "a", "/v1/embeddings"},
		{"no body", `{"custom_id":"a","method":"POST","url":"/v1/responses"}`, CodeMissing, "a", "body"},
		{"body a string", `{"custom_id":"a","method":"POST","url":"/v1/responses","body":"{}"}`, CodeValue, "a", "no object"},
		{"an unknown member", `{"custom_id":"a","method":"POST","url":"/v1/responses","body":{},"priority":1}`, CodeUnknown, "a", "priority"},
		{"too long", request("a", limit), CodeLong, "", "more bytes"},
		{"a custom_id seen before", request("last", 1), CodeDuplicate, "last", "number 1 of all"},
		{"refused by the model", request("a", 13), "400", "a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A bad line between good ones.
			file := write(t, request("last", 2)+"\n"+c.line+"\n\n"+request("end", 3))
			p, err := Index(t.Context(), []string{file}, urls, nil, Limits{Line: limit, Shard: 2})
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "out")
			var f fake
			if err := run(t.Context(), p, dir, []string{file}, f.answer, nil); err != nil {
				t.Fatal(err)
			}
			all := read(t, dir)
			if len(all) != 3 {
				t.Fatalf("%d lines, want 3: %+v", len(all), all)
			}
			for _, id := range []string{"last", "end"} {
				if n := slices.IndexFunc(all, func(l told) bool { return l.output && l.CustomID != nil && *l.CustomID == id }); n < 0 {
					t.Errorf("%s was not answered", id)
				} else {
					all = slices.Delete(all, n, n+1)
				}
			}
			if len(all) != 1 {
				t.Fatalf("%d lines are left", len(all))
			}
			l := all[0]
			if got := ""; c.id != "" || l.CustomID != nil {
				if l.CustomID != nil {
					got = *l.CustomID
				}
				if got != c.id {
					t.Errorf("custom_id %q, want %q", got, c.id)
				}
			}
			switch {
			case c.code == "":
				if !l.output || l.Response == nil || l.Response.Status != 200 || l.Error != nil || !strings.HasPrefix(l.Response.Request, "req_") {
					t.Errorf("got %+v, want an answer", l)
				}
			case c.code == "400":
				if l.output || l.Response == nil || l.Response.Status != 400 || string(l.Response.Body) != `{"error":{"message":"13"}}` || l.Error != nil {
					t.Errorf("got %+v, want status 400", l)
				}
			case l.output || l.Error == nil || l.Error.Code != c.code || l.Error.Line != 2 || l.Response != nil || !strings.Contains(l.Error.Message, c.says):
				t.Errorf("got %+v %+v, want %s that says %q", l, l.Error, c.code, c.says)
			}
			if !strings.HasPrefix(l.ID, "batch_req_") {
				t.Errorf("id %q", l.ID)
			}
		})
	}
}

func TestIndexRefuses(t *testing.T) {
	good := write(t, request("a", 1))
	for _, c := range []struct {
		name  string
		files []string
		l     Limits
		want  string
	}{
		{"an empty file", []string{write(t, "")}, Limits{}, "no requests"},
		{"blank lines only", []string{write(t, "\n \r\n\t\n")}, Limits{}, "no requests"},
		{"a byte order mark only", []string{write(t, "\xef\xbb\xbf")}, Limits{}, "no requests"},
		{"a folder", []string{t.TempDir()}, Limits{}, "no regular file"},
		{"no file", []string{"none"}, Limits{}, "no such file"},
		{"no files", nil, Limits{}, "no files"},
		{"too many lines", []string{good, write(t, request("b", 1))}, Limits{Lines: 1}, "more than 1"},
		{"a large shard", []string{good}, Limits{Shard: 5000}, "4096"},
	} {
		if _, err := Index(t.Context(), c.files, urls, nil, c.l); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	marked := write(t, "\xef\xbb\xbf"+request("a", 1))
	if p, err := Index(t.Context(), []string{marked}, urls, nil, Limits{}); err != nil || p.Head.Wrong != 0 || p.Shards[0].Lines[0].Offset != 3 {
		t.Errorf("a byte order mark before a request: %v", err)
	}
}

// A run that ends at any moment, again and again, answers every line once, and
// computes no finished line again.
func TestEndedRuns(t *testing.T) {
	var text strings.Builder
	const lines = 300
	src := rand.New(rand.NewPCG(1, 2))
	for i := range lines {
		switch i % 20 {
		case 7:
			text.WriteString("wrong\n")
		case 9:
			text.WriteString(request("id 0", 1) + "\n")
		default:
			text.WriteString(strings.Replace(request(fmt.Sprintf("id %d", i), src.IntN(50)), "}}", fmt.Sprintf(`,"n":%d}}`, i), 1) + "\n")
		}
	}
	files := []string{write(t, text.String())}
	dir := filepath.Join(t.TempDir(), "a [b] *?")
	f := &fake{}
	finished := map[int]int{}
	var mu sync.Mutex
	ends := 0
	for {
		p, err := Index(t.Context(), files, urls, map[string]string{"a": "b"}, Limits{Shard: 40})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := errors.New("ended")
		left := 20 + src.IntN(40)
		f.stop = func(int) {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel(ended)
			}
		}
		err = run(ctx, p, dir, files, f.answer, func(r Finished) {
			mu.Lock()
			defer mu.Unlock()
			if !r.Earlier {
				finished[r.Number]++
			}
		})
		cancel(nil)
		if err == nil {
			break
		}
		if !errors.Is(err, ended) {
			t.Fatal(err)
		}
		if ends++; ends > 100 {
			t.Fatal("no run comes to its end")
		}
		// As if killed while it wrote: half a record, and one that was torn.
		if names, _ := filepath.Glob(filepath.Join(escape(dir), partsName, "*")); len(names) > 0 {
			h, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			h.WriteString("01234567 o 5 {\"id\":\"torn\"}\n89abcdef o 6 {\"id")
			h.Close()
		}
	}
	if ends < 3 {
		t.Fatalf("ended %d times, want several", ends)
	}
	for n, times := range finished {
		if times != 1 {
			t.Errorf("line %d was finished %d times", n, times)
		}
	}
	if len(finished) != lines {
		t.Errorf("%d lines were finished, want %d", len(finished), lines)
	}
	all := read(t, dir)
	seen := map[string]int{}
	wrong := 0
	for _, l := range all {
		if l.CustomID == nil {
			wrong++
		} else {
			seen[*l.CustomID]++
		}
	}
	if len(all) != lines || wrong != lines/20 || seen["id 0"] != 1+lines/20 {
		t.Errorf("%d lines, %d wrong, %d of id 0", len(all), wrong, seen["id 0"])
	}
	for id, n := range seen {
		if n != 1 && id != "id 0" {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	p, _ := Index(t.Context(), files, urls, map[string]string{"a": "b"}, Limits{Shard: 40})
	if c, err := p.Check(dir); err != nil || c.Open != 0 || c.Completed+c.Failed != lines {
		t.Errorf("check: %+v, %v", c, err)
	}
	if n, err := p.Begin(t.Context(), dir); err != nil || n != len(p.Shards) {
		t.Errorf("again: %d finished, %v", n, err)
	}
	if names, _ := filepath.Glob(filepath.Join(escape(dir), partsName, "*")); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	// A shard with a line too few is found.
	text2, _ := os.ReadFile(OutputPath(dir, 1))
	os.WriteFile(OutputPath(dir, 1), text2[bytes.IndexByte(text2, '\n')+1:], 0o666)
	if _, err := p.Check(dir); err == nil {
		t.Error("a line too few was not seen")
	}
}

// A worker that was given up goes on beside the one that replaced it. What they
// answer need not be the same, and the shard is one's.
func TestTwoWorkers(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second int // status of line b: the first ends first
		failed        int
	}{
		{"the same", 200, 200, 0},
		{"the first fails in a line", 500, 200, 1},
		{"the second fails in a line", 200, 500, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := []string{write(t, request("a", 1)+"\n"+request("b", 2)+"\n"+request("c", 3)+"\n")}
			p, err := Index(t.Context(), files, urls, nil, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := p.Begin(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			element, err := json.Marshal(p.Shards[0])
			if err != nil {
				t.Fatal(err)
			}
			began, ended := make(chan struct{}), make(chan struct{})
			var once sync.Once
			worker := func(status int, wait func()) *Runner {
				r, err := NewRunner(dir, files, urls, 4, func(_ context.Context, _ string, body []byte) (int, []byte) {
					wait()
					if strings.Contains(string(body), `"xx"`) {
						return status, []byte("{}")
					}
					return 200, []byte("{}")
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { r.Close() })
				return r
			}
			second := worker(c.second, func() { once.Do(func() { close(began) }); <-ended })
			failed := make(chan error)
			go func() { failed <- second.Do(t.Context(), element) }()
			<-began
			err = worker(c.first, func() {}).Do(t.Context(), element)
			close(ended)
			if err := errors.Join(err, <-failed); err != nil {
				t.Fatal(err)
			}
			if got, err := p.Check(dir); err != nil || got.Failed != c.failed || got.Completed != 3-c.failed {
				t.Errorf("%+v, %v, want %d failed of 3", got, err, c.failed)
			}
			if left, _ := os.ReadDir(filepath.Join(dir, partsName)); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestFolders(t *testing.T) {
	files := []string{write(t, request("a", 1))}
	dir := t.TempDir()
	plan := func(facts map[string]string) *Plan {
		p, err := Index(t.Context(), files, urls, facts, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if _, err := plan(map[string]string{"checkpoint": "1"}).Begin(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := plan(map[string]string{"checkpoint": "2"}).Begin(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "another batch") {
		t.Errorf("another checkpoint: %v", err)
	}
	other := t.TempDir()
	os.WriteFile(filepath.Join(other, "mine.jsonl"), nil, 0o666)
	if _, err := plan(nil).Begin(t.Context(), other); err == nil || !strings.Contains(err.Error(), "new or empty") {
		t.Errorf("somebody's files: %v", err)
	}
	// The input changes after the plan was made.
	p := plan(map[string]string{"checkpoint": "1"})
	os.WriteFile(files[0], []byte(request("b", 1)), 0o666)
	var f fake
	r, err := NewRunner(dir, files, urls, 1, f.answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	element, _ := json.Marshal(p.Shards[0])
	if err := r.Do(t.Context(), element); err == nil || !strings.Contains(err.Error(), "not what it was") {
		t.Errorf("a changed line: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"shard":0}`, `{"shard":1,"lines":[{"n":0,"l":1,"o":0,"b":1,"c":0,"f":7}]}`, `{"shard":1,"lines":[{"n":0,"l":1,"o":0,"b":-1,"c":0}]}`} {
		if err := r.Do(t.Context(), []byte(bad)); err == nil {
			t.Errorf("%q is a shard", bad)
		}
	}
	// No room for the request, or an end, is no answer.
	for _, status := range []int{429, 499, 503} {
		r.answer = func(context.Context, string, []byte) (int, []byte) { return status, []byte("{}") }
		os.WriteFile(files[0], []byte(request("a", 1)), 0o666)
		if err := r.Do(t.Context(), element); err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// What is finished of a batch that ends early is kept, the rest says why not.
func TestCollect(t *testing.T) {
	var text strings.Builder
	for i := range 50 {
		text.WriteString(request(fmt.Sprint(i), 20+i) + "\n")
	}
	text.WriteString("wrong\n")
	files := []string{write(t, text.String())}
	p, err := Index(t.Context(), files, urls, nil, Limits{Shard: 8})
	if err != nil {
		t.Fatal(err)
	}
	dir, to := t.TempDir(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := &fake{stop: func(n int) {
		if n == 21 {
			cancel()
		}
	}}
	if err := run(ctx, p, dir, files, f.answer, nil); err == nil {
		t.Fatal("it was not cancelled")
	}
	outputs, failed := filepath.Join(to, "output-1.jsonl"), filepath.Join(to, "errors-1.jsonl")
	if _, err := p.Collect(t.Context(), dir, files, outputs, failed, nil); err == nil {
		t.Error("an unfinished batch was collected as finished")
	}
	c, err := p.Collect(t.Context(), dir, files, outputs, failed, &LineError{Code: CodeCancelled, Message: "Cancelled."})
	if err != nil {
		t.Fatal(err)
	}
	all := read(t, to)
	if c.Completed+c.Failed+c.Open != 51 || c.Completed < 10 || c.Open < 10 || len(all) != 51 {
		t.Fatalf("%+v, %d lines", c, len(all))
	}
	open := 0
	seen := map[string]bool{}
	for _, l := range all {
		if l.CustomID != nil {
			seen[*l.CustomID] = true
		}
		if l.Error != nil && l.Error.Code == CodeCancelled {
			open++
		}
	}
	if open != c.Open || len(seen) != 50 {
		t.Errorf("%d open, want %d; %d custom_ids, want 50", open, c.Open, len(seen))
	}
	f.stop = nil
	if err := run(t.Context(), p, dir, files, f.answer, nil); err != nil {
		t.Fatal(err)
	}
	if c, err = p.Collect(t.Context(), dir, files, outputs, failed, nil); err != nil || c.Open != 0 || c.Failed != 1 {
		t.Errorf("whole: %+v, %v", c, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(request("a", 3)))
	f.Add([]byte(`{"custom_id":"\ud800","method":"POST","url":"/v1/responses","body":{"a":[1,{"b":null}]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, wrong := parse(line, urls)
		if (r == nil) == (wrong == nil) {
			t.Fatal("a line is a request or wrong")
		}
		if r != nil && (r.ID == "" || len(r.ID) > mostID || !json.Valid(r.Body) || r.Body[0] != '{' || !has(urls, r.URL)) {
			t.Fatalf("%+v", r)
		}
		if wrong != nil && (wrong.Code == "" || wrong.Message == "") {
			t.Fatalf("%+v", wrong)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(request("a", 3)+"\n\r\nx\n"+request("a", 3)), 30)
	f.Fuzz(func(t *testing.T, text []byte, limit int) {
		file := write(t, string(text))
		p, err := Index(t.Context(), []string{file}, urls, nil, Limits{Line: limit})
		if err != nil {
			return
		}
		dir := t.TempDir()
		var a fake
		if err := run(t.Context(), p, dir, []string{file}, a.answer, nil); err != nil {
			t.Fatal(err)
		}
		if c, err := p.Check(dir); err != nil || c.Open != 0 || len(read(t, dir)) != p.Head.Lines {
			t.Fatalf("%+v, %v", c, err)
		}
	})
}
