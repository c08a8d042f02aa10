package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command line of the docs, in a block or between backticks, names a
// command that there is and flags that it has.
func TestDocsCommands(t *testing.T) {
	lines := regexp.MustCompile("(?m)(?:^ {4}|^\\$ |^|`)(?:bin/)?ossify ([a-z]+(?: [^`\n#|>&]*)?)(?:`|\\s*#|\\s*[|>&]|$)")
	flags := regexp.MustCompile(`(?:^|[\s\[(])(--?[a-z][a-z0-9-]*)`)
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "tools/*/*.md", "testdata/*.md"} {
		list, err := filepath.Glob(filepath.Join("..", "..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	seen := 0
	for _, file := range files {
		for _, m := range lines.FindAllStringSubmatch(string(must(os.ReadFile(file))), -1) {
			line := m[1]
			root := newRoot(program{})
			c, _, err := root.Find(strings.Fields(line))
			if err != nil || c == root {
				if strings.HasPrefix(m[0], " ") || strings.HasPrefix(m[0], "$") || strings.HasPrefix(m[0], "`") {
					t.Errorf("%s: no command of %q", file, line)
				}
				continue // a sentence that begins so
			}
			seen++
			c.InitDefaultHelpFlag()
			for _, f := range flags.FindAllStringSubmatch(line, -1) {
				name := strings.TrimLeft(f[1], "-")
				if long := c.Flags().Lookup(name); long == nil && (len(name) > 1 || c.Flags().ShorthandLookup(name) == nil) {
					t.Errorf("%s: %s has no flag %s: %q", file, c.CommandPath(), f[1], line)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d command lines, want those of the README and more", seen)
	}
}

// Sentences that readers have stumbled on, and notes that told of one day at
// work, stay out of docs, help texts and messages.
func TestSentences(t *testing.T) {
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "tools/*/*.md", "testdata/*.md", "cmd/*/*.go", "gptoss/*.go", "onnx/*.go", "onnx/*/*.go", "verify/*.go", "verify/*/*.go", "parity/*.go"} {
		for _, file := range must(filepath.Glob(filepath.Join("..", "..", "..", pattern))) {
			if !strings.HasSuffix(file, "_test.go") {
				texts[file] = string(must(os.ReadFile(file)))
			}
		}
	}
	if len(texts) < 60 {
		t.Fatalf("%d files, want docs and commands", len(texts))
	}
	for file, text := range texts {
		text = strings.Join(strings.Fields(strings.ReplaceAll(text, "\n//", "\n")), " ")
		for _, sentence := range []string{
			"fail, or ambiguous", "It fails with exit code", "of it 0 on one side", "those in the column", "are of a twin", "then of a twin", "shown to fail on",
			"a quarter of an hour before", "Freely, rounding turns", "values of parity-traps", "returns the nodes that are left",
		} {
			if strings.Contains(text, sentence) {
				t.Errorf("%s: %q", file, sentence)
			}
		}
	}
}

// The README's first commands work as they stand there, in this order.
func TestREADME(t *testing.T) {
	text := string(must(os.ReadFile(filepath.Join("..", "..", "..", "README.md"))))
	data, err := filepath.Abs(filepath.Join("..", "..", "..", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(data, filepath.Join(dir, "testdata")); err != nil {
		t.Skip(err) // a system without links
	}
	t.Chdir(dir)
	_, start, _ := strings.Cut(text, "\n## Start\n")
	commands := regexp.MustCompile(`(?m)^ {4}ossify (.+)$`).FindAllStringSubmatch(start, 2)
	if len(commands) != 2 || !strings.Contains(text, "make install") {
		t.Fatalf("the README begins with %q, want two commands after make install", commands)
	}
	for _, m := range commands {
		if code, _, errs := ossify(t, "", strings.Fields(m[1])...); code != 0 {
			t.Errorf("ossify %s: exit code %d, %s", m[1], code, errs)
		}
	}
}
