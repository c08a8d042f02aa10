package main

import (
	"flag"
	"path/filepath"
	"testing"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/harmony"
	"ossify/internal/modeltest"
	"ossify/tokenizer"
	"ossify/trained"
)

var asked = flag.Int("asked", 96, "questions to ask the model that comes with ossify")

// The model that comes with ossify answers what stood in no training: 95 of 100
// to the letter, 95 of 100 calls valid, and 99 of 100 ended by itself.
func TestTrainedPassesTheExamination(t *testing.T) {
	m, err := trained.Open()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := m.Write(t.Context(), dir, gptoss.Original, nil); err != nil {
		t.Fatal(err)
	}
	ck := modeltest.Open(t, dir)
	scores, err := examine(t.Context(), ck, engine.Options{Precision: engine.BF16}, 2, *asked, func(e *harmony.Encoding, q *question) {
		t.Logf("%v:\nwant %s\ngot  %s", q.kind, text(e, q.want), text(e, q.got))
	})
	if err != nil {
		t.Fatal(err)
	}
	var all score
	for k, s := range scores {
		all = all.plus(s)
		t.Logf("%v: %+v", kind(k), s)
	}
	if all.asked != *asked || all.calls == 0 {
		t.Fatalf("%d asked, %d of them for calls", all.asked, all.calls)
	}
	if 100*all.exact < 95*all.asked || 100*all.valid < 95*all.calls || 100*all.stopped < 99*all.asked {
		t.Errorf("%+v: want 95 of 100 exact, 95 of 100 calls valid, 99 of 100 stopped", all)
	}
}

// What is counted as right: the messages but for thoughts, to the letter.
func TestSays(t *testing.T) {
	e := harmony.New(tokenizer.New())
	ids := func(text string) []uint32 { return e.Tokenizer().Encode(nil, text, tokenizer.AllSpecials()) }
	want := ids("<|channel|>analysis<|message|>2 + 2.<|end|><|start|>assistant<|channel|>final<|message|>4.<|return|>")
	for _, tt := range []struct {
		name, got string
		right     bool
	}{
		{"the same", "<|channel|>analysis<|message|>2 + 2.<|end|><|start|>assistant<|channel|>final<|message|>4.<|return|>", true},
		{"another thought", "<|channel|>analysis<|message|>Well.<|end|><|start|>assistant<|channel|>final<|message|>4.<|return|>", true},
		{"no thought", "<|channel|>final<|message|>4.<|return|>", true},
		{"another answer", "<|channel|>analysis<|message|>2 + 2.<|end|><|start|>assistant<|channel|>final<|message|>5.<|return|>", false},
		{"an answer more", "<|channel|>final<|message|>4.<|end|><|start|>assistant<|channel|>final<|message|>4.<|return|>", false},
		{"another channel", "<|channel|>commentary<|message|>4.<|return|>", false},
		{"to a tool", "<|channel|>final to=functions.x<|message|>4.<|return|>", false},
		{"no end", "<|channel|>final<|message|>4.", false},
		{"another end", "<|channel|>final<|message|>4.<|call|>", false},
		{"nothing", "", false},
	} {
		if got := says(e, ids(tt.got), want); got != tt.right {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.right)
		}
	}
}
