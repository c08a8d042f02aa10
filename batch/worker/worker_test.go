package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ossify/batch"
	"ossify/gptoss"
	"ossify/internal/fileset"
	"ossify/internal/modeltest"
	"ossify/openai"
	"ossify/pipeline"
	"ossify/pull/hubtest"
	"ossify/verify"
)

// words writes a small model of all of harmony's tokens.
func words(t *testing.T, d gptoss.Dialect, seed uint64) string {
	t.Helper()
	c := modeltest.Tiny(t)
	c.Vocab, c.Layers = 201088, 2
	return modeltest.Write(t, c, d, seed)
}

func hash(t *testing.T, dir string) string {
	t.Helper()
	h, err := verify.CheckpointHash(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// job makes a batch of lines in a folder of its own.
func job(t *testing.T, c Config, shard int, lines ...string) (Config, pipeline.Job, *batch.Plan) {
	t.Helper()
	in := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(in, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.Inputs, c.Dir = []string{in}, filepath.Join(t.TempDir(), "out")
	c.Names, c.Precision, c.Cache, c.Active = []string{"m"}, "bf16", 1e8, 4
	plan, err := batch.Index(t.Context(), c.Inputs, URLs(), nil, batch.Limits{Line: 1 << 20, Shard: shard})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Begin(t.Context(), c.Dir); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, pipeline.Job{Kind: Kind, Config: text, Elements: batch.PlanPath(c.Dir), Skip: 1, Parallel: 2}, plan
}

func line(id int, url, body string) string {
	return fmt.Sprintf(`{"custom_id":"%d","method":"POST","url":%q,"body":%s}`, id, url, body)
}

func requests(n int) (lines []string) {
	for i := range n {
		switch i % 3 {
		case 0:
			lines = append(lines, line(i, openai.PathChat, fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"%d"}],"max_tokens":6,"seed":%d}`, i, i)))
		case 1:
			lines = append(lines, line(i, openai.PathResponses, fmt.Sprintf(`{"model":"m","input":"%d","max_output_tokens":6,"seed":%d}`, i, i)))
		case 2:
			lines = append(lines, line(i, openai.PathCompletions, fmt.Sprintf(`{"model":"m","prompt":"%d","max_tokens":6,"seed":%d}`, i, i)))
		}
	}
	return lines
}

var varying = regexp.MustCompile(`"(?:id|request_id|item_id|created|created_at|completed_at|cached_tokens)":(?:"[^"]*"|[0-9]+)`)

// answers are the lines of a batch's files, but for ids and times, by custom_id.
func answers(t *testing.T, dir, kind string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := filepath.Glob(filepath.Join(dir, kind+"-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for l := range bytes.Lines(text) {
			var v struct {
				ID string `json:"custom_id"`
			}
			if err := json.Unmarshal(l, &v); err != nil || all[v.ID] != "" {
				t.Fatalf("%s: %s: twice, or %v", name, l, err)
			}
			all[v.ID] = varying.ReplaceAllString(string(l), "*")
		}
	}
	return all
}

// A process opens the model once, for all shards and threads; every line is
// answered, as it is when shards are others; wrong ones become errors; who is told of
// lines and tokens is told of all.
func TestWorker(t *testing.T) {
	dir := words(t, gptoss.Original, 3)
	lines := append(requests(14), "no line", line(99, openai.PathChat, `{"model":"none","messages":[]}`))
	var want map[string]string
	for _, shard := range []int{3, 100} {
		c, j, plan := job(t, Config{Checkpoint: dir, Hash: hash(t, dir)}, shard, lines...)
		var opened, told, failed, tokens atomic.Int64
		kind := Opener(Process{
			Done: func(f batch.Finished) {
				told.Add(1)
				if f.Failed {
					failed.Add(1)
				}
			},
			Used: func(r openai.Record) { tokens.Add(int64(r.Usage.Completion)) },
		})
		counted := func(ctx context.Context, config []byte) (pipeline.Worker, error) {
			opened.Add(1)
			return kind(ctx, config)
		}
		if err := pipeline.Local(t.Context(), j, counted); err != nil {
			t.Fatal(err)
		}
		count, err := plan.Check(c.Dir)
		if err != nil || count.Total != 16 || count.Completed != 14 || count.Failed != 2 || count.Open != 0 {
			t.Errorf("shards of %d: %+v, %v", shard, count, err)
		}
		// "no line" was known to be wrong before it came to a worker.
		if opened.Load() != 1 || told.Load() < 15 || failed.Load() != told.Load()-14 || tokens.Load() < 14 || tokens.Load() > 14*6 {
			t.Errorf("shards of %d: opened %d times, told of %d lines, %d failed, %d tokens", shard, opened.Load(), told.Load(), failed.Load(), tokens.Load())
		}
		got := answers(t, c.Dir, "output")
		if want == nil {
			want = got
		}
		for id, l := range want {
			if got[id] != l {
				t.Errorf("shards of %d: %s: %s\nwant %s", shard, id, got[id], l)
			}
		}
		if e := answers(t, c.Dir, "errors"); len(got) != 14 || !strings.Contains(e["99"], `"status_code":404`) || len(e) != 2 {
			t.Errorf("shards of %d: %d answers, errors %v", shard, len(got), e)
		}
		// A worker that is opened again has nothing to do, and is told of nothing.
		before := told.Load()
		if err := pipeline.Local(t.Context(), j, counted); err != nil || told.Load() != before {
			t.Errorf("again: %v, told of %d lines more", err, told.Load()-before)
		}
	}
}

// What cannot answer is an error that says why, and leaves nothing open.
func TestRefuses(t *testing.T) {
	dir := words(t, gptoss.Original, 3)
	right := hash(t, dir)
	small := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 1)
	for _, c := range []struct {
		name  string
		known map[string]string
		edit  func(*Config)
		want  string // "" opens
	}{
		{"the checkpoint", nil, func(*Config) {}, ""},
		{"no hash", nil, func(c *Config) { c.Hash = "" }, ""},
		{"another checkpoint", nil, func(c *Config) { c.Hash = strings.Repeat("0", 64) }, "it is another checkpoint"},
		{"a hash that this process knows", map[string]string{dir: "known"}, func(c *Config) { c.Hash = "known" }, ""},
		{"a hash of another folder", map[string]string{small: "known"}, func(c *Config) { c.Hash = "known" }, "it is another checkpoint"},
		{"no checkpoint", nil, func(c *Config) { c.Checkpoint, c.Hash = filepath.Join(dir, "none"), "" }, "no such folder"},
		{"few tokens", nil, func(c *Config) { c.Checkpoint, c.Hash = small, "" }, "201088 of o200k_harmony"},
		{"a context beyond the model's", nil, func(c *Config) { c.Context = 1 << 30 }, "want at most the model's"},
		{"no cache", nil, func(c *Config) { c.Cache = -1 }, "generate"},
		{"no input", nil, func(c *Config) { c.Inputs = []string{filepath.Join(dir, "none.jsonl")} }, "none.jsonl"},
	} {
		q, _, _ := job(t, Config{Checkpoint: dir, Hash: right}, 10, requests(1)...)
		c.edit(&q)
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		w, err := Opener(Process{Known: c.known})(t.Context(), text)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || w != nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err == nil:
			if err := w.Close(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	if _, err := Opener(Process{})(t.Context(), []byte("{")); err == nil || !strings.Contains(err.Error(), "config") {
		t.Errorf("a config that is none: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	q, _, _ := job(t, Config{Checkpoint: dir, Hash: right}, 10, requests(1)...)
	text, _ := json.Marshal(q)
	if _, err := Opener(Process{})(ctx, text); err == nil {
		t.Error("opened though the run has ended")
	}
}

// hub is one that has a checkpoint.
func hub(t *testing.T, dir string) *hubtest.Server {
	t.Helper()
	s := hubtest.New(t)
	s.Files = map[string][]byte{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if s.Files[n.Name()], err = os.ReadFile(filepath.Join(dir, n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// A checkpoint that a worker does not find is pulled, by several that share a folder
// once, and goes on where another was killed; then its hash is compared.
func TestPull(t *testing.T) {
	dir := words(t, gptoss.HuggingFace, 3)
	right := hash(t, dir)
	s := hub(t, dir)
	s.Token = "secret"
	config := func(to, want string) []byte {
		q, _, _ := job(t, Config{Checkpoint: to, Hash: want, Pull: &Pull{Endpoint: s.Hub.URL, Repo: hubtest.Repo}}, 10, requests(1)...)
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	kind := Opener(Process{Token: "secret"})
	to := filepath.Join(t.TempDir(), "new", "folder")
	q := config(to, right)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			w, err := kind(t.Context(), q)
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := hash(t, to); got != right {
		t.Errorf("pulled %s, want %s", got, right)
	}
	for name := range s.Files { // as if all but one small file had not come
		if name != "config.json" {
			if err := os.Remove(filepath.Join(to, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := kind(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	asked := s.Requests.Load()
	if w, err = kind(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if n := s.Requests.Load() - asked; n != 0 {
		t.Errorf("the hub is asked %d times for what is there", n)
	}
	for _, c := range []struct {
		name, want string
		process    Process
		config     []byte
	}{
		{"no token", "401", Process{}, config(filepath.Join(t.TempDir(), "x"), right)},
		{"the hub has another checkpoint", "it is another checkpoint", Process{Token: "secret"}, config(filepath.Join(t.TempDir(), "x"), strings.Repeat("1", 64))},
	} {
		if w, err := Opener(c.process)(t.Context(), c.config); err == nil || w != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	// Who waits for another's pull ends with the run.
	to = filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(to, 0o777); err != nil {
		t.Fatal(err)
	}
	lock, err := fileset.WaitLock(t.Context(), filepath.Join(to, pullLock))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if _, err := kind(ctx, config(to, right)); !errors.Is(err, stopped) {
		t.Errorf("while another pulls: %v", err)
	}
}
