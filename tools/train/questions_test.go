package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/harmony"
	"ossify/tokenizer"
)

// Every conversation renders, its prompt is where it begins, and what is wanted
// parses back as messages that end by themselves.
func TestItems(t *testing.T) {
	e := harmony.New(tokenizer.New())
	for _, exam := range []bool{false, true} {
		src := newSource(3, exam)
		var seen [kinds]int
		for range 3000 {
			it := src.next(course)
			seen[it.kind]++
			prompt, whole, err := render(e, it)
			if err != nil {
				t.Fatalf("%v: %v", it.kind, err)
			}
			if !slices.Equal(whole[:len(prompt)], prompt) || !ends(whole) {
				t.Fatalf("%v: %s does not begin with its prompt, or end", it.kind, text(e, whole))
			}
			list, err := e.Parse(whole[len(prompt):], harmony.Assistant, harmony.ParseOptions{})
			if err != nil || len(list) != len(it.Want) {
				t.Fatalf("%v: %s: %d messages, %v", it.kind, text(e, whole), len(list), err)
			}
			if it.kind == Call && !valid(e, &question{item: it, got: whole[len(prompt):]}) {
				t.Errorf("%s: no valid call", text(e, whole))
			}
		}
		for k, n := range seen {
			if n == 0 {
				t.Errorf("exam %v: no %v", exam, kind(k))
			}
		}
	}
}

// No question of the examination stands in the training, whatever the seeds.
func TestExamIsHeldBack(t *testing.T) {
	train, exam := newSource(1, false), newSource(2, true)
	said := map[string]bool{}
	last := func(it item) string { return it.Prompt[len(it.Prompt)-1].Text() }
	for range 8000 {
		for _, k := range []kind{Fact, Sum, Call} {
			said[last(train.of(k))] = true
		}
	}
	for range 3000 {
		for _, k := range []kind{Fact, Sum, Call} {
			it := exam.of(k)
			to := it.Want[len(it.Want)-1].Recipient.Or("")
			if names, _ := parametersOf(it.Prompt, to); k == Call && len(names) == 0 {
				continue // a tool without parameters has the same questions in both
			}
			if said[last(it)] {
				t.Fatalf("%v: %q stands in the training", k, last(it))
			}
		}
	}
}

// The examination is the same whatever the course is: figures of two models are
// of the same questions.
func TestExaminationIsReproducible(t *testing.T) {
	e := harmony.New(tokenizer.New())
	for seed, want := range map[uint64]string{2: "6f1d27278959b0c8", 3: "cf456dabea98610c", 4: "4cbbcdb184ba6f4e"} {
		src, h := newSource(seed, true), sha256.New()
		for range 500 {
			it := src.next(examination)
			if it.kind == Drill {
				t.Fatal("an exercise in the examination")
			}
			_, ids, err := render(e, it)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(h, ids)
		}
		if got := hex.EncodeToString(h.Sum(nil)[:8]); got != want {
			t.Errorf("seed %d: sha256 %s, want %s", seed, got, want)
		}
	}
}

// Exercises that give a value a name, as a call does, have none of the
// examination's arguments, and no product that is asked there.
func TestExercisesHoldBack(t *testing.T) {
	s := newSource(1, false)
	value := regexp.MustCompile(`":"?([^",}]+)`)
	values := 0
	for range 20000 {
		it := s.of(Drill)
		if !strings.HasPrefix(it.Prompt[len(it.Prompt)-1].Text(), "Object: ") {
			continue
		}
		for _, m := range value.FindAllStringSubmatch(it.Want[len(it.Want)-1].Text(), -1) {
			if values++; !s.mine("argument", m[1]) {
				t.Fatalf("%q is an argument of the examination", m[1])
			}
		}
	}
	if values < 1000 {
		t.Errorf("%d values", values)
	}
	for y := 2; y < 10; y++ {
		for last := range 10 {
			x := s.factor(last, y)
			if x != 0 && (x < 2 || x > 99 || x%10 != last || x*y > mostSum || !s.mine(x, "*", y)) {
				t.Errorf("%d * %d for a number that ends with %d", x, y, last)
			}
		}
	}
}

func TestSteps(t *testing.T) {
	for _, tt := range []struct {
		x    int
		op   rune
		y, z int
		want string
	}{
		{0, '+', 0, 0, "0 + 0: 0 + 0 = 0, digits 0."},
		{347, '+', 286, 633, "347 + 286: 7 + 6 = 13, 4 + 8 + 1 = 13, 3 + 2 + 1 = 6, digits 6 3 3."},
		{58, '+', 67, 125, "58 + 67: 8 + 7 = 15, 5 + 6 + 1 = 12, digits 1 2 5."},
		{105, '-', 98, 7, "105 - 98: 5 - 8 + 10 = 7, 0 - 9 - 1 + 10 = 0, 1 - 0 - 1 = 0, digits 7."},
		{90, '-', 9, 81, "90 - 9: 0 - 9 + 10 = 1, 9 - 0 - 1 = 8, digits 8 1."},
		{7, '*', 8, 56, "7 * 8: 7 * 8 = 56, digits 5 6."},
		{67, '*', 8, 536, "67 * 8: 7 * 8 = 56, 6 * 8 = 48, 48 + 5 = 53, digits 5 3 6."},
	} {
		if got := steps(tt.x, tt.op, tt.y, tt.z); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// The course of a seed is the same everywhere: the recipe names its sum.
func TestCourseIsReproducible(t *testing.T) {
	for range 2 {
		path := filepath.Join(t.TempDir(), "course")
		if err := data(t.Context(), path, 1, 1000, 500); err != nil {
			t.Fatal(err)
		}
		b, err := checkpoint.ReadFile(filepath.Dir(path), filepath.Base(path), 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if got, want := hex.EncodeToString(sum[:8]), "27638c9ec0708257"; got != want {
			t.Errorf("sha256 %s, want %s", got, want)
		}
	}
}
