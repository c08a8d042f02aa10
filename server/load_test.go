package server_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ossify/engine"
	"ossify/generate"
	"ossify/generate/onengine"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/openai"
	"ossify/server"
	"ossify/tokenizer"
)

var (
	clients  = flag.Int("clients", 4, "that ask at once")
	requests = flag.Int("requests", 3, "of each client")
)

// tiny is a small model of all of harmony's tokens.
func tiny(t *testing.T) *engine.Model {
	t.Helper()
	c := modeltest.Tiny(t)
	c.Vocab = tokenizer.VocabSize
	ck := modeltest.Open(t, modeltest.Write(t, c, gptoss.Original, 3))
	m, err := ck.Engine(t.Context(), engine.Options{Precision: engine.BF16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// mixed returns the path and body of one of many kinds of requests.
func mixed(seed uint64) (path, body string) {
	r := rand.New(rand.NewPCG(seed, 9))
	text := strings.Repeat("some words of a prompt ", 1+r.IntN(30)) + fmt.Sprint(r.IntN(10))
	sampling := fmt.Sprintf(`"temperature":%g,"top_p":%g,"seed":%d`, float64(r.IntN(3))/2, 1-float64(r.IntN(2))/5, seed)
	most := 1 + r.IntN(24)
	switch r.IntN(4) {
	case 0:
		return openai.PathResponses, fmt.Sprintf(`{"model":"m","input":%q,"max_output_tokens":%d,"store":false,%s}`, text, most, sampling)
	case 1:
		return openai.PathCompletions, fmt.Sprintf(`{"model":"m","prompt":%q,"max_tokens":%d,"logprobs":2,%s}`, text, most, sampling)
	case 2:
		return openai.PathChat, fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}],"max_tokens":%d,"response_format":{"type":"json_object"},"frequency_penalty":0.5,%s}`, text, most, sampling)
	}
	return openai.PathChat, fmt.Sprintf(`{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":%q}],"max_tokens":%d,"stop":["q"],"logprobs":true,"n":2,%s}`, text, most, sampling)
}

// plain is an answer without what differs from run to run: ids, times, and what
// was cached.
func plain(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	var strip func(v any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range []string{"id", "created", "created_at", "cached_tokens"} {
				delete(v, name)
			}
			for _, e := range v {
				strip(e)
			}
		case []any:
			for _, e := range v {
				strip(e)
			}
		}
	}
	strip(v)
	out, _ := json.Marshal(v)
	return string(out)
}

// Many clients at once get what each would get alone; those that go leave no
// page and no goroutine behind.
func TestLoad(t *testing.T) {
	m := tiny(t)
	before := runtime.NumGoroutine()
	var ends []func()
	serve := func(o generate.SchedulerOptions) (string, *generate.Scheduler) {
		s, err := generate.NewScheduler(onengine.New(m), o)
		if err != nil {
			t.Fatal(err)
		}
		h, err := server.New(options(s))
		if err != nil {
			t.Fatal(err)
		}
		web := httptest.NewServer(h)
		end := sync.OnceFunc(func() { web.Close(); s.Close() })
		t.Cleanup(end)
		ends = append(ends, end)
		return web.URL, s
	}
	requests := *requests
	if testing.Short() { // for the race detector: clients at once, but each asks once
		requests = 1
	}
	n := *clients * requests
	want := make([]string, n)
	url, _ := serve(generate.SchedulerOptions{Active: 1, Kept: -1})
	begin := time.Now()
	for i := range want {
		path, body := mixed(uint64(i))
		resp, b := ask(t, "POST", url+path, body)
		if resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, b)
		}
		want[i] = plain(t, b)
	}
	one := time.Since(begin)

	url, s := serve(generate.SchedulerOptions{Active: 16, CacheBytes: 40 << 20})
	begin = time.Now()
	var wg sync.WaitGroup
	for c := range *clients {
		wg.Go(func() {
			for k := range requests {
				i := k**clients + c
				path, body := mixed(uint64(i))
				resp, b := ask(t, "POST", url+path, body)
				if resp.StatusCode != 200 {
					t.Errorf("%d %s", resp.StatusCode, b)
				} else if got := plain(t, b); got != want[i] {
					t.Errorf("request %d: %s\nwant %s", i, got, want[i])
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests: %v one by one, %v of %d clients at once; %+v", n, one, time.Since(begin), *clients, s.Stats())

	var gone sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{}}
	limit := make(chan bool, 32)
	for i := range min(10*n, 1000) {
		limit <- true
		gone.Go(func() {
			defer func() { <-limit }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%30)*time.Millisecond)
			defer cancel()
			path, body := mixed(uint64(i))
			r, _ := http.NewRequestWithContext(ctx, "POST", url+path, strings.NewReader(body))
			if resp, err := client.Do(r); err == nil {
				resp.Body.Close()
			}
		})
	}
	gone.Wait()
	client.CloseIdleConnections()
	for i := 0; s.Stats().Active+s.Stats().Waiting > 0 && i < 12_000; i++ {
		time.Sleep(5 * time.Millisecond)
	}
	if st := s.Stats(); st.Active+st.Waiting > 0 {
		t.Errorf("%+v", st)
	}
	http.DefaultClient.CloseIdleConnections()
	for _, end := range ends {
		end()
	}
	for range 3000 {
		runtime.GC()
		if m.CacheBytes() == 0 && runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before: %s", now, before, buf[:runtime.Stack(buf, true)])
	}
	if b := m.CacheBytes(); b != 0 {
		t.Errorf("%d bytes of pages are left", b)
	}
	slices.Sort(want)
	if len(slices.Compact(want)) < n/2 {
		t.Errorf("the answers are all alike")
	}
}
