package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ossify/sweep"
)

// A sweep of a right engine passes, and says the same with any number of workers.
// A bug at one position of one element is found, there alone, and its command
// repeats it.
func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tiny")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", "--layers", "1", dir); code != 0 {
		t.Fatal(stderr)
	}
	args := []string{"sweep", dir, "--elements", "4", "--lengths", "6,9", "--first", "0,4088,131000", "--json"}
	code, want, stderr := ossify(t, "", append(args, "--workers", "1")...)
	if code != 0 {
		t.Fatalf("exit code %d: %s %s", code, stderr, want)
	}
	var r sweep.Report
	if err := json.Unmarshal([]byte(want), &r); err != nil || r.Passed != 4 || len(r.Places) < 2 || len(r.Stages) < 20 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, got, _ := ossify(t, "", append(args, "--workers", "8", "--runner", "local")...); got != want {
		t.Errorf("8 workers say %s\nwant %s", got, want)
	}
	position := regexp.MustCompile(`has positions (\d+) to`)
	_, _, stderr = ossify(t, "", append(args, "--inject", "window -1@3:999999")...)
	m := position.FindStringSubmatch(stderr)
	if m == nil {
		t.Fatalf("a position that is none: %s", stderr)
	}
	code, text, _ := ossify(t, "", append(args[:len(args)-1], "--inject", "sinks off by a head@3:"+m[1])...)
	command := regexp.MustCompile(`(?m)^  ossify (verify .*)$`).FindStringSubmatch(text)
	if code != 1 || strings.Count(text, " fails at ") != 1 || !strings.Contains(text, "element 3 fails at block.0.attn.sdpa") || !strings.Contains(text, "position "+m[1]+",") || !strings.Contains(text, "repeats: yes") || command == nil {
		t.Fatalf("exit code %d: %s", code, text)
	}
	words := regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(command[1], -1)
	var line []string
	for _, w := range words {
		line = append(line, w[1]+w[2])
	}
	if code, out, _ := ossify(t, "", line...); code != 1 || !strings.Contains(strings.Join(strings.Fields(out), " "), "position "+m[1]+",") {
		t.Errorf("%s: exit code %d: %s", command[1], code, out)
	}
	for _, c := range []struct{ args, want string }{
		{"--inject x", "NAME@ELEMENT:POSITION"},
		{"--inject nothing@1:2", "want one of: window +1"},
		{"--workers 0", "--workers 0"},
		{"--precision f16", "--precision"},
		{"--lengths 1", "2 or more"},
		{"--elements 0", "no elements"},
		{"--runner universal --endpoint h:1", "--state"},
	} {
		if strings.Contains(c.args, "universal") && len(beamRunners()) == 0 {
			continue
		}
		if code, _, stderr := ossify(t, "", append([]string{"sweep", dir}, strings.Fields(c.args)...)...); code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %q, want %q", c.args, code, stderr, c.want)
		}
	}
}
