package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What was called wrongly is answered with the nearest thing that exists and
// the help to look at, and exits with 2.
func TestHints(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"trac x", "ossify: usage: no command \"trac\"; did you mean trace?\nSee 'ossify --help'.\n"},
		{"vrefiy", "ossify: usage: no command \"vrefiy\"; did you mean verify?\nSee 'ossify --help'.\n"},
		{"detok", "ossify: usage: no command \"detok\"; did you mean detokenize?\nSee 'ossify --help'.\n"},
		{"nothing-like-it", "ossify: usage: no command \"nothing-like-it\"\nSee 'ossify --help'.\n"},
		{"verfy --help", "ossify: usage: no command \"verfy\"; did you mean verify?\nSee 'ossify --help'.\n"},
		{"-h verfy", "ossify: usage: no command \"verfy\"; did you mean verify?\nSee 'ossify --help'.\n"},
		{"nothing-like-it --help", "ossify: usage: no command \"nothing-like-it\"\nSee 'ossify --help'.\n"},
		{"harmony rendr -h", "ossify: usage: no command \"rendr\" of harmony; did you mean render?\nSee 'ossify harmony --help'.\n"},
		{"completion bsh --help", "ossify: usage: no command \"bsh\" of completion; did you mean bash?\nSee 'ossify completion --help'.\n"},
		{"help verfy", "ossify: usage: no command \"verfy\"; did you mean verify?\nSee 'ossify help --help'.\n"},
		{"help harmony prase", "ossify: usage: no command \"prase\" of harmony; did you mean parse?\nSee 'ossify help --help'.\n"},
		{"harmony rendr", "ossify: usage: no command \"rendr\" of harmony; did you mean render?\nSee 'ossify harmony --help'.\n"},
		{"completion", "ossify: usage: completion: want one of bash fish powershell zsh\nSee 'ossify completion --help'.\n"},
		{"completion bsh", "ossify: usage: no command \"bsh\" of completion; did you mean bash?\nSee 'ossify completion --help'.\n"},
		{"synth --presett tiny x", "ossify: usage: no flag --presett of synth; did you mean --preset?\nSee 'ossify synth --help'.\n"},
		{"synth --preset tinny x", "ossify: usage: --preset \"tinny\": want one of tiny small 20b 120b trained; did you mean tiny?\nSee 'ossify synth --help'.\n"},
		{"synth x", "ossify: usage: --preset NAME is missing, want one of tiny small 20b 120b trained\nSee 'ossify synth --help'.\n"},
		{"synth -x", "ossify: usage: unknown shorthand flag: 'x' in -x\nSee 'ossify synth --help'.\n"},
		{"trace x --precision f16", "ossify: usage: --precision \"f16\": want one of bf16 f32 f64; did you mean bf16?\nSee 'ossify trace --help'.\n"},
		{"inspect", "ossify: usage: 0 arguments, want DIR or FILE\nSee 'ossify inspect --help'.\n"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(tt.args), strings.NewReader(""), &out, &errs); code != 2 || out.Len() > 0 || errs.String() != tt.want {
			t.Errorf("%s: exit code %d, output %q\ngot  %q\nwant %q", tt.args, code, out.String(), errs.String(), tt.want)
		}
	}
	// A word as long as the longest that there are costs no time.
	if got := didYouMean(strings.Repeat("verify", 1<<20), []string{"verify"}); got != "" {
		t.Errorf("got %q", got)
	}
}

// help shows what --help shows.
func TestHelpCommand(t *testing.T) {
	for _, topic := range []string{"", "trace", "help", "harmony", "harmony render", "completion bash"} {
		var a, b, errs bytes.Buffer
		if run(t.Context(), append([]string{"help"}, strings.Fields(topic)...), nil, &a, &errs) != 0 ||
			run(t.Context(), append(strings.Fields(topic), "--help"), nil, &b, &errs) != 0 || a.String() != b.String() || a.Len() == 0 {
			t.Errorf("%q: got %q and %q, errors %q", topic, a.String(), b.String(), errs.String())
		}
	}
}

// Flags that take one of a few values say which, and complete them.
func TestChoicesComplete(t *testing.T) {
	seen := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		path := strings.Fields(c.CommandPath())[1:]
		c.Flags().VisitAll(func(f *pflag.Flag) {
			ch, ok := f.Value.(choice)
			if !ok {
				return
			}
			seen++
			var out, errs bytes.Buffer
			args := slices.Concat([]string{"__complete"}, path, []string{"--" + f.Name, ""})
			if code := run(t.Context(), args, nil, &out, &errs); code != 0 || !strings.HasPrefix(out.String(), strings.Join(ch.values, "\n")+"\n") {
				t.Errorf("%v --%s: completes %q, want %q", path, f.Name, out.String(), ch.values)
			}
			if !strings.Contains(f.Usage, strings.Join(ch.values, ", ")) {
				t.Errorf("%v --%s: the help %q does not say %q", path, f.Name, f.Usage, ch.values)
			}
		})
	}
	visit(newRoot(program{}))
	if seen < 3 {
		t.Errorf("%d choices, want at least those of synth and trace", seen)
	}
}

func TestVersion(t *testing.T) {
	got, err := tokenCommand("", "version")
	if err != nil || !strings.HasPrefix(got, "ossify ") || !strings.Contains(got, ", go1.") {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = tokenCommand("", "version", "--json")
	if err != nil || !strings.Contains(got, `"go": "go1.`) {
		t.Errorf("got %q, %v", got, err)
	}
	b := build{"v1.2.3", "go1.26", "linux/arm64", false, "abc", "2026-01-02T03:04:05Z", true}
	if got, want := b.String(), "ossify v1.2.3, go1.26, linux/arm64, without cgo\ncommit abc of 2026-01-02T03:04:05Z, modified"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
