package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

type seen struct {
	mu   sync.Mutex
	all  []string
	fail string
}

var errSeen = errors.New("seen")

func (s *seen) Do(_ context.Context, element []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, string(element))
	if string(element) == s.fail {
		return errSeen
	}
	return nil
}

func (s *seen) Close() error { return nil }

func (s *seen) kind(context.Context, []byte) (Worker, error) { return s, nil }

func TestLocal(t *testing.T) {
	for _, c := range []struct {
		name, text string
		skip       int
		fail       string
		want       []string
		says       string
	}{
		{name: "lines", text: "a\nb\nc\n", want: []string{"a", "b", "c"}},
		{name: "after a head", text: "head\na\n", skip: 1, want: []string{"a"}},
		{name: "none", text: ""},
		{name: "a head only", text: "head\n", skip: 1},
		{name: "cut off", text: "a\nb", want: []string{"a"}, says: "ends early"},
		{name: "too long", text: strings.Repeat("x", MostElement+1) + "\n", says: "more than"},
		{name: "a failure", text: "a\nb\n", fail: "a", says: "seen"},
	} {
		name := filepath.Join(t.TempDir(), "elements")
		if err := os.WriteFile(name, []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		s := &seen{fail: c.fail}
		err := Local(t.Context(), Job{Kind: "x", Elements: name, Skip: c.skip, Parallel: 3}, s.kind)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.says)
		}
		if slices.Sort(s.all); c.fail == "" && !slices.Equal(s.all, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, s.all, c.want)
		}
	}
	if err := Local(t.Context(), Job{Kind: "x", Elements: "none", Parallel: 1}, (&seen{}).kind); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// A pool of a process that a runner keeps tries again after errors: to open its
// worker, to process an element.
func TestLasting(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		s := &seen{fail: "a"}
		opens := 0
		p := NewPool(t.Context(), func(context.Context, []byte) (Worker, error) {
			if opens++; opens == 1 {
				return nil, errSeen
			}
			return s, nil
		}, nil, 2)
		p.Lasting = lasting
		if err := p.Open(); !errors.Is(err, errSeen) {
			t.Fatal(err)
		}
		if err := p.Open(); (err == nil) != lasting {
			t.Errorf("lasting %v: opened again: %v", lasting, err)
		}
		if !lasting {
			continue
		}
		g := p.Group()
		if err := errors.Join(g.Start([]byte("a")), g.Wait()); !errors.Is(err, errSeen) {
			t.Errorf("a failure: %v", err)
		}
		if err := p.Open(); err != nil {
			t.Errorf("opened after a failure: %v", err)
		}
		g = p.Group()
		if err := errors.Join(g.Start([]byte("b")), g.Wait()); err != nil {
			t.Errorf("after a failure: %v", err)
		}
		p.Close()
		if err := p.Group().Start([]byte("c")); err == nil {
			t.Error("an element after the end")
		}
	}
}
