package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"ossify/parity"
	"ossify/pipeline"
)

func request() Request {
	return Request{Elements: 40, Seed: 3, Lengths: []int{8, 17}, First: []int{0, 4088}, Precisions: []string{"f32", "bf16"}}
}

// judge makes a report of the arguments alone; a bug fails at its position.
func judge(_ context.Context, args []string) (*parity.Report, error) {
	sum := 0
	for _, a := range strings.Join(args, " ") {
		sum = sum*31%1009 + int(a)
	}
	c := &parity.Column{Name: "free", What: "x"}
	for layer := range 2 {
		f := &parity.Fit{Elements: 10, Used: float64(sum%97+layer) / 100, Bounded: 10, ULPs: []int{9, 1}}
		if i := slices.Index(args, "--inject-at"); i >= 0 && layer == 1 {
			f.Outside, f.Worst.Index = 1, 3
		}
		c.Add(parity.Fitted(fmt.Sprintf("block.%d.attn.qkv", layer), []int{7}, f))
	}
	c.Add(parity.Chosen("block.0.mlp.experts", &parity.Choice{Rows: 5, Same: 5}))
	if slices.Contains(args, "broken") {
		return nil, errors.New("a broken golden")
	}
	r := &parity.Report{Columns: []*parity.Column{c}}
	r.Judge()
	return r, nil
}

func run(t *testing.T, q Request, dir string, workers int, j Judge) *Report {
	t.Helper()
	list, err := q.List()
	if err != nil {
		t.Fatal(err)
	}
	if err := Begin(t.Context(), dir, list, map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	kind := func(context.Context, []byte) (pipeline.Worker, error) { return NewWorker(dir, j), nil }
	if err := pipeline.Local(t.Context(), pipeline.Job{Kind: Kind, Elements: ElementsPath(dir), Skip: 1, Parallel: workers}, kind); err != nil {
		t.Fatal(err)
	}
	r := NewReport([]parity.Fact{{Name: "checkpoint", Text: "x"}})
	err = Read(dir, list, func(o Outcome) error { r.Add(o, "ossify verify x "+strings.Join(o.Args, " ")); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Repeat(t.Context(), j, 20); err != nil {
		t.Fatal(err)
	}
	r.End()
	return r
}

func TestSameReport(t *testing.T) {
	var want string
	for _, workers := range []int{1, 3, 8} {
		text, err := json.Marshal(run(t, request(), t.TempDir(), workers, judge))
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = string(text)
		}
		if string(text) != want {
			t.Errorf("%d workers: %s\nwant %s", workers, text, want)
		}
	}
	r := run(t, request(), t.TempDir(), 2, judge)
	if r.Verdict != parity.Pass || r.Passed != 40 || len(r.Stages) != 2 || r.Stages[0].Runs != 80 || r.Stages[0].Elements != 800 || r.Choices.Rows != 200 || len(r.Places) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestFailures(t *testing.T) {
	q := request()
	list, _ := q.List()
	e := list[11]
	q.Inject = &Inject{"no sinks", 11, e.First + 2}
	q.Goldens = nil
	r := run(t, q, t.TempDir(), 3, judge)
	if r.Verdict != parity.Fail || r.Passed != 39 || len(r.Failures) != 1 {
		t.Fatalf("%+v", r)
	}
	f := r.Failures[0]
	if f.Element != 11 || f.Stage != "block.1.attn.qkv" || f.Where != "free" || !strings.Contains(f.Why, "position 7") || f.Repeats != "yes" || !strings.Contains(f.Command, "--inject no sinks --inject-at") {
		t.Errorf("%+v", f)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "element 11 fails at block.1.attn.qkv") || !strings.Contains(text.String(), "verdict: fail") {
		t.Errorf("%s, %v", text.String(), err)
	}
	// A failure that is not there again is told.
	times := 0
	var mu sync.Mutex
	once := func(ctx context.Context, args []string) (*parity.Report, error) {
		if slices.Contains(args, "--inject") {
			mu.Lock()
			defer mu.Unlock()
			if times++; times > 1 {
				args = args[:len(args)-4]
			}
		}
		return judge(ctx, args)
	}
	if r := run(t, q, t.TempDir(), 3, once); r.Failures[0].Repeats != "no" {
		t.Errorf("%+v", r.Failures[0])
	}
	// What cannot be compared is a failure of its own.
	q = request()
	q.Goldens = []string{"broken"}
	r = run(t, q, t.TempDir(), 3, judge)
	if r.Verdict != parity.Fail || r.Passed != 40 || r.Failures[0].Why != "a broken golden" || r.Failures[0].Repeats != "yes" {
		t.Errorf("%+v", r.Failures)
	}
}

// A sweep that was ended goes on: what has an outcome is not judged again.
func TestGoesOn(t *testing.T) {
	dir := t.TempDir()
	q := request()
	list, _ := q.List()
	if err := Begin(t.Context(), dir, list, map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	w := NewWorker(dir, judge)
	for _, e := range list[:15] {
		text, _ := json.Marshal(e)
		if err := w.Do(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	judged := 0
	r := run(t, q, dir, 4, func(ctx context.Context, args []string) (*parity.Report, error) {
		mu.Lock()
		judged++
		mu.Unlock()
		return judge(ctx, args)
	})
	if judged != 25 || r.Passed != 40 {
		t.Errorf("%d judged again, %d pass", judged, r.Passed)
	}
	if err := Begin(t.Context(), dir, list, map[string]string{"a": "c"}); err == nil {
		t.Error("another checkpoint goes on with these outcomes")
	}
	if err := Begin(t.Context(), dir, list[:3], map[string]string{"a": "b"}); err == nil {
		t.Error("other elements go on with these outcomes")
	}
	os.WriteFile(outcomePath(dir, 2), []byte(`{"element":3}`), 0o666)
	if err := Read(dir, list, func(Outcome) error { return nil }); err == nil || !strings.Contains(err.Error(), "element 2") {
		t.Errorf("another's outcome: %v", err)
	}
	os.Remove(outcomePath(dir, 2))
	if err := Read(dir, list, func(Outcome) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no outcome: %v", err)
	}
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Request)
		want string
	}{
		{"no lengths", func(q *Request) { q.Lengths = nil }, "no lengths"},
		{"a length of one", func(q *Request) { q.Lengths = []int{1} }, "2 or more"},
		{"a negative position", func(q *Request) { q.First = []int{-1} }, "0 or more"},
		{"nothing", func(q *Request) { q.Elements = 0 }, "no elements"},
		{"too many", func(q *Request) { q.Elements = Most + 1 }, "more than"},
		{"a bug in no element", func(q *Request) { q.Inject = &Inject{"x", 40, 0} }, "element 40"},
		{"a bug in a text", func(q *Request) { q.Prompts = []string{"a"}; q.Inject = &Inject{"x", 0, 0} }, "element 0"},
		{"a bug where nothing is", func(q *Request) { q.Inject = &Inject{"x", 0, 200} }, "has positions"},
	} {
		q := request()
		c.edit(&q)
		if _, err := q.List(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	q := request()
	q.Prompts, q.Goldens, q.ONNX = []string{"a", "b"}, []string{"g"}, "m"
	list, err := q.List()
	if err != nil || len(list) != 45 || !slices.Equal(list[0].Args, []string{"--golden", "g"}) || !slices.Equal(list[2].Args, []string{"--prompt", "a", "--precision", "bf16"}) {
		t.Fatalf("%v, %v", list, err)
	}
	onnx := 0
	for _, e := range list {
		if slices.Contains(e.Args, "--onnx") {
			onnx++
		}
	}
	if onnx != 5 {
		t.Errorf("%d by ONNX, want one in eight", onnx)
	}
	texts, err := ReadPrompts(strings.NewReader(" a \n\n\tb"))
	if err != nil || !slices.Equal(texts, []string{"a", "b"}) {
		t.Errorf("%q, %v", texts, err)
	}
	if _, err := ReadPrompts(strings.NewReader(strings.Repeat("x", 70_000))); err == nil {
		t.Error("a text of 70,000 bytes")
	}
}
