package orbax

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Find looks at a folder, at those in it, and at theirs.
func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name  string
		items []string // folders with _METADATA
		want  string
		err   string
	}{
		{"here", []string{"."}, ".", ""},
		{"a step", []string{"7/default"}, "7/default", ""},
		{"an item", []string{"state"}, "state", ""},
		{"too deep", []string{"a/b/c"}, "", "no _METADATA"},
		{"none", nil, "", "no _METADATA"},
		{"two steps", []string{"7/state", "8/state"}, "", "holds 2 items"},
		{"one that was completed", []string{"7/state", "8.orbax-checkpoint-tmp/state"}, "7/state", ""},
		{"none that was completed", []string{"8/state.orbax-checkpoint-tmp"}, "", "a save that was not completed"},
		{"an item in an item", []string{"state", "state/more"}, "state", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, item := range tt.items {
				at := filepath.Join(dir, filepath.FromSlash(item))
				if err := os.MkdirAll(at, 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(at, metadata), nil, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Find(dir)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %q, %v, want %s", got, err, tt.err)
				}
				if none := strings.HasPrefix(tt.err, "no "); none != errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%v: is fs.ErrNotExist: %v", err, !none)
				}
				return
			}
			if err != nil || got != filepath.Join(dir, filepath.FromSlash(tt.want)) {
				t.Errorf("got %q, %v, want %s", got, err, tt.want)
			}
		})
	}
}

// A store has no key that leaves its folder.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &folder{root: root, open: map[string]*os.File{}}
	defer f.Close()
	for _, key := range []string{"../x", "/etc/passwd", "a/../../x", `a\b`, "", ".", "a//b", "a/", "a\x00b"} {
		if _, err := f.Get(key); err == nil {
			t.Errorf("%q is read", key)
		}
	}
	// More files than may be open at once are read all the same.
	for i := range mostOpen + 10 {
		name := string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := f.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(name))
		if _, err := r.ReadAt(b, 0); err != nil || string(b) != name {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
	}
	if len(f.open) != mostOpen || len(f.turn) != mostOpen {
		t.Errorf("%d files open, want %d", len(f.open), mostOpen)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for path, in := range f.open {
		if err := in.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v, want it closed", path, err)
		}
	}
}

// What is taken has parameters of different names, none of which leaves a folder.
func FuzzTree(f *testing.F) {
	f.Add([]byte(`{"use_ocdbt": true, "use_zarr3": false, "tree_metadata": {"('a', 'b')": {"key_metadata": [{"key": "a", "key_type": 2}, {"key": "b", "key_type": 2}],
		"value_metadata": {"value_type": "jax.Array", "skip_deserialize": false, "write_shape": [64]}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := parseTree(text)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, p := range tree.params {
			if seen[p.name] || p.name == "" || strings.Contains(p.name, "/") || p.name == "." || p.name == ".." {
				t.Errorf("name %q", p.name)
			}
			seen[p.name] = true
		}
		if len(seen) == 0 {
			t.Error("no parameters")
		}
	})
}
