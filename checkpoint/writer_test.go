package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/internal/fileset"
)

// list returns the names of a folder's files.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func entriesOf(tensors []Tensor) []Entry {
	var list []Entry
	for _, x := range tensors {
		list = append(list, x.Entry())
	}
	return list
}

func TestWriterStreams(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	write(t, path, "what was there before")
	set := fileset.New(t.Context(), fileset.Options{Ours: fileset.Any})
	defer set.Abort()
	w, err := Create(set, path, entriesOf(sample()), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range sample() {
		b, err := w.Tensor(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range x.Data { // in pieces
			if n, err := b.Write([]byte{c}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	if before, err := os.ReadFile(path); err != nil || string(before) != "what was there before" {
		t.Errorf("before Commit the file holds %q, %v", before, err)
	}
	if err := errors.Join(w.Close(), set.Commit()); err != nil {
		t.Fatal(err)
	}
	set.Abort() // does nothing
	if got := list(t, dir); !slices.Equal(got, []string{"x.safetensors"}) {
		t.Errorf("files %v", got)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sameTensors(t, f.Tensors(), sample())
	var order []int64
	for _, x := range sample() {
		got, _ := f.Tensor(x.Name)
		order = append(order, got.Offset)
	}
	if !slices.IsSorted(order) {
		t.Errorf("offsets %v, want those of the declared order", order)
	}
	again := filepath.Join(dir, "again.safetensors")
	save(t, again, sample(), nil)
	a, errA := os.ReadFile(path)
	b, errB := os.ReadFile(again)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Error("written twice, the bytes differ")
	}
}

func TestWriterErrors(t *testing.T) {
	two := []Entry{{"a", U8, []int{2}}, {"b", BF16, []int{1}}}
	begin := func(w *Writer, name string) io.Writer {
		b, err := w.Tensor(name)
		if err != nil {
			return errWriter{err}
		}
		return b
	}
	put := func(w *Writer, name string, n int) error {
		_, err := begin(w, name).Write(make([]byte, n))
		return err
	}
	for _, tt := range []struct {
		name string
		do   func(w *Writer) error
		want string
	}{
		{"too many bytes", func(w *Writer) error { return put(w, "a", 3) }, "a: more bytes than the 2 of U8 [2]"},
		{"too few bytes", func(w *Writer) error { return errors.Join(put(w, "a", 1), put(w, "b", 2)) }, "a: 1 bytes written of the 2 of U8 [2]"},
		{"too few bytes at the end", func(w *Writer) error { return errors.Join(put(w, "a", 2), put(w, "b", 1), w.Close()) }, "b: 1 bytes written of the 2 of BF16 [1]"},
		{"wrong order", func(w *Writer) error { return put(w, "b", 2) }, "b: written where a was declared"},
		{"undeclared", func(w *Writer) error { return errors.Join(put(w, "a", 2), put(w, "b", 2), put(w, "c", 1)) }, "c: written after the last tensor"},
		{"missing", func(w *Writer) error { return errors.Join(put(w, "a", 2), w.Close()) }, "b: declared and not written"},
		{"writer of a tensor that is complete", func(w *Writer) error {
			b := begin(w, "a")
			_, err := b.Write(make([]byte, 2))
			begin(w, "b")
			_, late := b.Write(make([]byte, 1))
			return errors.Join(err, late)
		}, "a: written after the next tensor was begun"},
		{"after Close", func(w *Writer) error {
			b := begin(w, "a")
			_, err := b.Write(make([]byte, 2))
			return errors.Join(err, put(w, "b", 2), w.Close(), put(w, "a", 2))
		}, "writer is closed"},
		{"late bytes", func(w *Writer) error {
			err := put(w, "a", 2)
			b := begin(w, "b")
			_, wrote := b.Write(make([]byte, 2))
			closed := w.Close()
			_, late := b.Write(nil)
			return errors.Join(err, wrote, closed, late)
		}, "writer is closed"},
		{"Close twice", func(w *Writer) error {
			err := errors.Join(put(w, "a", 2), put(w, "b", 2), w.Close())
			return errors.Join(err, w.Close())
		}, "writer is closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			set := fileset.New(t.Context(), fileset.Options{})
			w, err := Create(set, filepath.Join(dir, "x.safetensors"), two, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = tt.do(w)
			if want := "checkpoint: x.safetensors: " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if err := w.Close(); err == nil {
				t.Error("Close after an error succeeded")
			}
			if set.Abort(); len(list(t, dir)) != 0 {
				t.Errorf("left %v", list(t, dir))
			}
		})
	}
}

type errWriter struct{ error }

func (e errWriter) Write([]byte) (int, error) { return 0, e.error }

func TestCreateRefuses(t *testing.T) {
	for _, tt := range []struct {
		name     string
		entries  []Entry
		metadata map[string]string
		want     string
	}{
		{"name twice", []Entry{{"a", U8, nil}, {"a", U8, nil}}, nil, "a: declared twice"},
		{"reserved name", []Entry{{"__metadata__", U8, nil}}, nil, "__metadata__: name is reserved"},
		{"name that is not UTF-8", []Entry{{"\xff", U8, nil}}, nil, `"\xff": name is not valid UTF-8`},
		{"metadata that is not UTF-8", nil, map[string]string{"k": "\xff"}, `metadata "k" is not valid UTF-8`},
		{"no type", []Entry{{"a", 0, nil}}, nil, "a: no dtype [] has no size"},
		{"negative dimension", []Entry{{"a", U8, []int{-1}}}, nil, "a: U8 [-1] has no size"},
		{"sum that overflows", []Entry{{"a", U8, []int{1 << 30, 1 << 30, 4}}, {"b", U8, []int{1 << 30, 1 << 30, 4}}}, nil, "b: U8 [1073741824, 1073741824, 4] has no size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Create(fileset.New(t.Context(), fileset.Options{}), filepath.Join(dir, "x.safetensors"), tt.entries, tt.metadata)
			if want := "checkpoint: x.safetensors: " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if got := list(t, dir); len(got) != 0 {
				t.Errorf("left %v", got)
			}
		})
	}
	if _, err := Create(fileset.New(t.Context(), fileset.Options{}), filepath.Join(t.TempDir(), "none", "x.safetensors"), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v, want ErrNotExist", err)
	}
}

// A target that cannot be replaced: nothing is left of the attempt.
func TestCommitFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, sample(), nil); err == nil {
		t.Fatal("replaced a folder")
	}
	if got := list(t, dir); !slices.Equal(got, []string{"x.safetensors"}) {
		t.Errorf("left %v", got)
	}
}

// An existing symbolic link is neither replaced nor followed.
func TestSaveRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "precious"), "kept")
	link := filepath.Join(dir, "x.safetensors")
	symlink(t, "precious", link)
	if err := Save(link, sample(), nil); err == nil || !strings.Contains(err.Error(), "a symbolic link") {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(link); err != nil || string(data) != "kept" {
		t.Errorf("the link's target holds %q, %v", data, err)
	}
}

func numbered(i, n int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n) }

// writeShards writes tensors as shards of at most most bytes.
func writeShards(dir string, tensors []Tensor, most int64, index bool) error {
	set := fileset.New(context.Background(), fileset.Options{})
	defer set.Abort()
	s, err := CreateShards(set, dir, numbered, entriesOf(tensors), most, map[string]string{"format": "pt"}, index)
	if err != nil {
		return err
	}
	planned, err := s.Files()
	if err != nil {
		return err
	}
	byName := make(map[string]Tensor)
	for _, x := range tensors {
		byName[x.Name] = x
	}
	for _, e := range s.Entries() {
		w, err := s.Tensor(e.Name)
		if err != nil {
			return err
		}
		if _, err := w.Write(byName[e.Name].Data); err != nil {
			return err
		}
	}
	if err := errors.Join(s.Close(), set.Commit()); err != nil {
		return err
	}
	for _, f := range planned {
		if info, err := os.Stat(f.Path); err != nil || info.Size() != f.Size {
			return fmt.Errorf("planned %+v, wrote %v, %v", f, info, err)
		}
	}
	return nil
}

func TestShards(t *testing.T) {
	three := []string{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"}
	for _, tt := range []struct {
		name  string
		most  int64
		index bool
		want  []string
	}{
		// matrix 24 bytes, vector 6, scalar 8, empty 0, odd 5.
		{"by size", 24, false, three[:0:0]},
		{"index", 24, true, append(three[:0:0], IndexFile)},
		{"one shard", 1000, false, []string{"model.safetensors"}},
		{"one shard has no index", 1000, true, []string{"model.safetensors"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := writeShards(dir, sample(), tt.most, tt.index); err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if tt.most == 24 { // 24 | 6+8+0+5
				want = append([]string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}, want...)
			}
			if got := list(t, dir); !slices.Equal(got, want) {
				t.Errorf("files %v, want %v", got, want)
			}
			f, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			sameTensors(t, f.Tensors(), sample())
		})
	}
	t.Run("a tensor larger than a shard has its own", func(t *testing.T) {
		dir := t.TempDir()
		if err := writeShards(dir, sample(), 10, true); err != nil {
			t.Fatal(err)
		}
		if got, want := list(t, dir), append(slices.Clone(three), IndexFile); len(got) != 5 || got[4] != want[3] {
			t.Errorf("files %v, want four shards and an index", got)
		}
		data, err := os.ReadFile(filepath.Join(dir, IndexFile))
		if err != nil {
			t.Fatal(err)
		}
		var index struct {
			Metadata struct {
				TotalSize int `json:"total_size"`
			}
			WeightMap map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(data, &index); err != nil {
			t.Fatal(err)
		}
		if index.Metadata.TotalSize != 43 || index.WeightMap["matrix"] != "model-00001-of-00004.safetensors" || index.WeightMap["odd"] != "model-00004-of-00004.safetensors" {
			t.Errorf("index %+v", index)
		}
	})
}

func TestShardsErrors(t *testing.T) {
	create := func(set *fileset.Set, dir string) *ShardWriter {
		s, err := CreateShards(set, dir, numbered, entriesOf(sample()), 24, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, tt := range []struct {
		name string
		do   func(s *ShardWriter) error
		want string
	}{
		{"nothing written", func(s *ShardWriter) error { return s.Close() }, ": model-00001-of-00002.safetensors: not written"},
		{"wrong tensor", func(s *ShardWriter) error { _, err := s.Tensor("odd"); return err }, "checkpoint: model-00001-of-00002.safetensors: odd: written where matrix was declared"},
		{"first shard only", func(s *ShardWriter) error {
			w, err := s.Tensor("matrix")
			if err != nil {
				return err
			}
			if _, err := w.Write(make([]byte, 24)); err != nil {
				return err
			}
			return s.Close()
		}, ": model-00002-of-00002.safetensors: not written"},
		{"short tensor before the next shard", func(s *ShardWriter) error {
			if _, err := s.Tensor("matrix"); err != nil {
				return err
			}
			_, err := s.Tensor("empty")
			return err
		}, "checkpoint: model-00001-of-00002.safetensors: matrix: 0 bytes written of the 24 of F32 [2, 3]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			set := fileset.New(t.Context(), fileset.Options{})
			err := tt.do(create(set, dir))
			if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant ...%s", err, tt.want)
			}
			set.Abort()
			if got := list(t, dir); len(got) != 0 {
				t.Errorf("left %v", got)
			}
		})
	}
	if _, err := CreateShards(fileset.New(t.Context(), fileset.Options{}), t.TempDir(), numbered, nil, 24, nil, true); err == nil {
		t.Error("no error for a checkpoint without tensors")
	}
	if _, err := CreateShards(fileset.New(t.Context(), fileset.Options{}), t.TempDir(), numbered, []Entry{{"a", 0, nil}}, 24, nil, true); err == nil {
		t.Error("no error for a tensor without a type")
	}
}

// Zeros are the bytes that writing zeros gives, between other tensors and at
// the end of the file.
func TestWriterZeros(t *testing.T) {
	dir := t.TempDir()
	entries := []Entry{
		{Name: "first", Type: U8, Shape: []int{3}},
		{Name: "middle", Type: U8, Shape: []int{2, 5000}},
		{Name: "none", Type: U8, Shape: []int{0}},
		{Name: "after", Type: U8, Shape: []int{4}},
		{Name: "last", Type: F32, Shape: []int{7}},
	}
	values := map[string][]byte{"first": {1, 2, 3}, "after": {4, 5, 6, 7}}
	var files [2][]byte
	for i := range files {
		path := filepath.Join(dir, fmt.Sprint(i, ".safetensors"))
		set := fileset.New(t.Context(), fileset.Options{})
		w, err := Create(set, path, entries, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if i == 1 && values[e.Name] == nil {
				if err := w.Zeros(e.Name); err != nil {
					t.Fatal(err)
				}
				continue
			}
			b, err := w.Tensor(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := e.Bytes()
			if _, err := b.Write(append(values[e.Name], make([]byte, n)...)[:n]); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), set.Commit()); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Errorf("%d bytes with holes differ from %d bytes written", len(files[1]), len(files[0]))
	}

	set := fileset.New(t.Context(), fileset.Options{})
	defer set.Abort()
	w, err := Create(set, filepath.Join(dir, "wrong.safetensors"), entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Zeros("after"); err == nil || !strings.Contains(err.Error(), "after: written where first was declared") {
		t.Errorf("zeros of the wrong tensor: %v", err)
	}
}

// A run that was ended leaves a file that the next one goes on with: tensors that
// are good stay where they are, others are written anew.
func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	entries := []Entry{{"a", U8, []int{3}}, {"b", U8, []int{2}}, {"c", U8, []int{4}}}
	data := map[string]string{"a": "aaa", "b": "bb", "c": "cccc"}
	run := func(keep map[string]bool, until string) (kept string, err error) {
		set := fileset.New(t.Context(), fileset.Options{Resume: true, Ours: fileset.Any})
		defer set.Abort()
		w, err := Create(set, path, entries, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name == until {
				w.buf.Flush()
				return kept, nil
			}
			ok, err := w.Keep(e.Name, func(r io.Reader) (bool, error) {
				b, err := io.ReadAll(r)
				return keep[e.Name] && string(b) == data[e.Name], err
			})
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				kept += e.Name
				continue
			}
			b, err := w.Tensor(e.Name)
			if err != nil {
				return kept, err
			}
			if _, err := b.Write([]byte(data[e.Name])); err != nil {
				return kept, err
			}
		}
		if err := w.Close(); err != nil {
			return kept, err
		}
		return kept, set.Commit()
	}
	for _, tt := range []struct {
		keep  map[string]bool
		until string
		kept  string
	}{
		{nil, "c", ""},
		{map[string]bool{"a": true, "b": true, "c": true}, "c", "ab"}, // c was not written
		{map[string]bool{"b": true, "c": true}, "c", "b"},
		{map[string]bool{"a": true, "b": true, "c": true}, "", "ab"},
	} {
		kept, err := run(tt.keep, tt.until)
		if err != nil || kept != tt.kept {
			t.Errorf("kept %q, %v, want %q", kept, err, tt.kept)
		}
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range f.Tensors() {
		if string(x.Data) != data[x.Name] {
			t.Errorf("%s is %q", x.Name, x.Data)
		}
	}
	// Where nothing was left, or another tensor is next, nothing is kept.
	set := fileset.New(t.Context(), fileset.Options{})
	defer set.Abort()
	w, err := Create(set, path+"2", entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if ok, err := w.Keep(name, func(io.Reader) (bool, error) { return true, nil }); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}
