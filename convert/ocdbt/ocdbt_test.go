package ocdbt

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// trees unpacks the databases that TensorStore wrote (tools/containers/trees.py).
func trees(t testing.TB) string {
	t.Helper()
	z, err := zip.OpenReader("testdata/trees.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir := t.TempDir()
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every key has the value that TensorStore says.
func TestTrees(t *testing.T) {
	dir := trees(t)
	for _, name := range []string{"high", "versions", "uncompressed"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]string
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			d, err := Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if keys := slices.Sorted(maps.Keys(want)); !slices.Equal(d.Keys(), keys) {
				t.Fatalf("keys\n%q\nwant\n%q", d.Keys(), keys)
			}
			for key, hash := range want {
				r, err := d.Get(key)
				if err != nil {
					t.Fatal(err)
				}
				v, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				if sum := sha256.Sum256(v); hex.EncodeToString(sum[:]) != hash {
					t.Errorf("%s: %d other bytes", key, len(v))
				}
			}
			if _, err := d.Get("no such key"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a key that is not there: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			for path, f := range d.files {
				if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("%s: %v, want it closed", path, err)
				}
			}
		})
	}
}

// A builder writes blobs as the format has them.
type builder struct{ b []byte }

func (b *builder) varints(v ...uint64) *builder {
	for _, x := range v {
		b.b = binary.AppendUvarint(b.b, x)
	}
	return b
}

func (b *builder) bytes(v ...byte) *builder { b.b = append(b.b, v...); return b }
func (b *builder) text(s string) *builder   { b.b = append(b.b, s...); return b }

// blob encloses a body.
func (b *builder) blob(magic uint32) []byte {
	out := binary.BigEndian.AppendUint32(nil, magic)
	out = binary.LittleEndian.AppendUint64(out, uint64(12+2+len(b.b)+4))
	out = append(out, 0, 0)
	out = append(out, b.b...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, crc32.MakeTable(crc32.Castagnoli)))
}

// manifest is one whose newest version's root is length bytes at offset of a file.
func manifest(file string, height byte, offset, length, keys uint64) []byte {
	b := new(builder).bytes(make([]byte, 16)...).bytes(0).varints(1024, 1<<20).bytes(4).varints(0)
	b.varints(1, uint64(len(file)), 0).text(file) // files
	b.varints(1, 1).bytes(height).varints(0, offset, length, keys, 0, 0).bytes(make([]byte, 8)...)
	return b.varints(0).blob(manifestMagic)
}

type value struct {
	key, inline  string
	out          bool
	file         uint64
	offset, size uint64
}

// leafOf is a leaf over files.
func leafOf(files []string, list ...value) []byte {
	b := new(builder).bytes(0).varints(uint64(len(files)))
	for i := 1; i < len(files); i++ {
		b.varints(0)
	}
	for _, f := range files {
		b.varints(uint64(len(f)))
	}
	for range files {
		b.varints(0)
	}
	for _, f := range files {
		b.text(f)
	}
	b.varints(uint64(len(list)))
	for range list[1:] {
		b.varints(0)
	}
	for _, v := range list {
		b.varints(uint64(len(v.key)))
	}
	for _, v := range list {
		b.text(v.key)
	}
	for _, v := range list {
		if v.out {
			b.varints(v.size)
		} else {
			b.varints(uint64(len(v.inline)))
		}
	}
	for _, v := range list {
		if v.out {
			b.bytes(1)
		} else {
			b.bytes(0)
		}
	}
	for _, v := range list {
		if v.out {
			b.varints(v.file)
		}
	}
	for _, v := range list {
		if v.out {
			b.varints(v.offset)
		}
	}
	for _, v := range list {
		if !v.out {
			b.text(v.inline)
		}
	}
	return b.blob(nodeMagic)
}

// inner is a node of one child.
func inner(height byte, key string, prefix, offset, length, keys uint64) []byte {
	return new(builder).bytes(height).varints(1, 1, 0).text("n").
		varints(1, uint64(len(key)), prefix).text(key).varints(0, offset, length, keys, 0, 0).blob(nodeMagic)
}

// Each hazard is an error that says where and what.
func TestHazards(t *testing.T) {
	ok := leafOf(nil, value{key: "a", inline: "1"}, value{key: "b", inline: ""})
	type files map[string][]byte
	one := func(node []byte, keys uint64) files {
		return files{"n": node, Manifest: manifest("n", 0, 0, uint64(len(node)), keys)}
	}
	damaged := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at] ^= 1
		return b
	}
	outOf := func(path string) files {
		return one(leafOf([]string{path}, value{key: "a", out: true, size: 4}), 1)
	}
	with := func(f files, name string, data []byte) files { f[name] = data; return f }
	cycle := inner(1, "a", 0, 0, 0, 1)
	cycle = inner(1, "a", 0, 0, uint64(len(cycle)), 1)
	for _, tt := range []struct {
		name  string
		files files
		want  string // "" is none
	}{
		{"whole", one(ok, 2), ""},
		{"no manifest", files{}, "manifest.ocdbt: statat manifest.ocdbt: no such file"},
		{"empty manifest", files{Manifest: nil}, "0 bytes, want at least 18"},
		{"manifest damaged", with(one(ok, 2), Manifest, damaged(manifest("n", 0, 0, uint64(len(ok)), 2), 30)), "has CRC-32C"},
		{"manifest cut", with(one(ok, 2), Manifest, manifest("n", 0, 0, uint64(len(ok)), 2)[:40]), "says that it has"},
		{"node damaged", with(one(ok, 2), "n", damaged(ok, 20)), "n: node at 0: has CRC-32C"},
		{"no node file", with(one(ok, 2), "n", nil), "of a file of 0"},
		{"magic of a node in the manifest", with(one(ok, 2), Manifest, ok), "begins with 0cdb20de, want 0cdb3a2a"},
		{"other number of keys", one(ok, 3), "says 3 keys, its tree has 2"},
		{"range beyond the file", files{"n": ok, Manifest: manifest("n", 0, 5, uint64(len(ok)), 2)}, "bytes at 5, of a file of"},
		{"range that overflows", files{"n": ok, Manifest: manifest("n", 0, 1<<63, 1<<63, 2)}, "bytes at 9223372036854775808, of a file of"},
		{"empty version", files{"n": ok, Manifest: manifest("n", 0, 1<<64-1, 1<<64-1, 0)}, "is empty in its newest version"},
		{"height of a tower", files{"n": ok, Manifest: manifest("n", 200, 0, uint64(len(ok)), 2)}, "height 200, want at most 32"},
		{"wrong height", files{"n": ok, Manifest: manifest("n", 1, 0, uint64(len(ok)), 2)}, "has height 0, want 1"},
		{"a node that is its own child", files{"n": cycle, Manifest: manifest("n", 1, 0, uint64(len(cycle)), 1)}, "has height 1, want 0"},
		{"keys not in order", one(leafOf(nil, value{key: "b"}, value{key: "a"}), 2), `has key "a" after "b"`},
		{"key twice", one(leafOf(nil, value{key: "a"}, value{key: "a"}), 2), `has key "a" after "a"`},
		{"key not UTF-8", one(leafOf(nil, value{key: "\xff"}), 1), "not valid UTF-8"},
		{"path up", outOf("../secret"), "../secret: want a path within"},
		{"path up within", outOf("d/../../secret"), "want a path within"},
		{"absolute path", outOf("/etc/passwd"), "want a path within"},
		{"path with a backslash", outOf(`d\x`), "want a path within"},
		{"path with NUL", outOf("d\x00x"), "want a path within"},
		{"path of a point", outOf("./x"), "want a path within"},
		{"empty path", outOf(""), "want a path within"},
		{"path of the folder", outOf("."), "want a path within"},
		{"value beyond its file", with(outOf("d/x"), "d/x", []byte("abc")), "4 bytes at 0, of a file of 3"},
		{"values overlap", with(one(leafOf([]string{"v"}, value{key: "a", out: true, size: 4}, value{key: "b", out: true, offset: 3, size: 4}), 2), "v", make([]byte, 9)), "values at 0 and 3 overlap"},
		{"values side by side", with(one(leafOf([]string{"v"}, value{key: "a", out: true, size: 4}, value{key: "b", out: true, offset: 4, size: 4}), 2), "v", make([]byte, 9)), ""},
		{"file that is not in the table", one(leafOf([]string{"v"}, value{key: "a", out: true, file: 1}), 1), "file 1 of 1"},
		{"a child's keys before it", func() files {
			leaf := leafOf(nil, value{key: "a"}, value{key: "c"})
			in := inner(1, "b", 0, 0, uint64(len(leaf)), 2)
			return files{"n": append(slices.Clone(leaf), in...), Manifest: manifest("n", 1, uint64(len(leaf)), uint64(len(in)), 2)}
		}(), `key "a" after "", want one of "b" or more`},
		{"many entries in few bytes", one(new(builder).bytes(0).varints(0, 1<<20).blob(nodeMagic), 1), "entries in the last 0 bytes"},
		{"more entries than the format has", one(new(builder).bytes(0).varints(0, 1<<40).blob(nodeMagic), 1), "want at most 1048576"},
		{"number beyond 64 bits", one(new(builder).bytes(0).bytes(bytes.Repeat([]byte{0xff}, 11)...).blob(nodeMagic), 1), "beyond 64 bits"},
		{"nothing in a node", one(new(builder).blob(nodeMagic), 1), "ends within a field"},
		{"bytes after a node's fields", one(new(builder).bytes(0).varints(0, 1, 1).text("a").varints(0).bytes(0).text("more").blob(nodeMagic), 1), "4 bytes after its last field"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range tt.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, data, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			d, err := Open(dir)
			if err == nil {
				d.Close()
			}
			if err == nil && tt.want != "" || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Links lead nowhere: not to files, and not through folders.
func TestLinks(t *testing.T) {
	for _, at := range []string{"v", "d"} {
		dir, other := t.TempDir(), t.TempDir()
		path := "v"
		if at == "d" {
			path = "d/v"
		}
		node := leafOf([]string{path}, value{key: "a", out: true, size: 4})
		for name, data := range map[string][]byte{
			filepath.Join(dir, Manifest): manifest("n", 0, 0, uint64(len(node)), 1), filepath.Join(dir, "n"): node, filepath.Join(other, "v"): []byte("abcd"),
		} {
			if err := os.WriteFile(name, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		target := filepath.Join(other, "v")
		if at == "d" {
			target = other
		}
		if err := os.Symlink(target, filepath.Join(dir, at)); err != nil {
			t.Skip(err) // a system that lets not everybody make them
		}
		if d, err := Open(dir); err == nil {
			d.Close()
			t.Errorf("a link at %s is followed", at)
		}
	}
}

// Whatever bytes of a database are changed: an error, or the same keys and the
// same places. Nodes have checksums.
func TestDamage(t *testing.T) {
	dir := trees(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, name := range []string{"high", "versions", "uncompressed"} {
		d, err := Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		keys, paths := d.Keys(), d.Files()
		d.Close()
		for range 60 {
			path := paths[r.IntN(len(paths))]
			was, err := os.ReadFile(path)
			if err != nil || len(was) == 0 {
				t.Fatal(err)
			}
			now := slices.Clone(was)
			if r.IntN(4) == 0 {
				now = now[:r.IntN(len(now))]
			} else {
				now[r.IntN(len(now))] ^= byte(1 + r.IntN(255))
			}
			if err := os.WriteFile(path, now, 0o666); err != nil {
				t.Fatal(err)
			}
			if d, err := Open(filepath.Join(dir, name)); err == nil {
				if !slices.Equal(d.Keys(), keys) {
					t.Errorf("%s: other keys", path)
				}
				d.Close()
			}
			if err := os.WriteFile(path, was, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// enclosed puts body into a valid blob, so that the fuzzer gets past the checksum.
func enclosed(body []byte, magic uint32) []byte { return (&builder{body}).blob(magic) }

func FuzzNode(f *testing.F) {
	f.Add(leafOf([]string{"v", "w"}, value{key: "a", inline: "1"}, value{key: "b", out: true, size: 4})[14:], byte(0))
	f.Add(inner(1, "b", 0, 0, 1, 2)[14:], byte(1))
	f.Fuzz(func(t *testing.T, body []byte, height byte) {
		list, err := parseNode(enclosed(body, nodeMagic), "base/", int(height))
		if err != nil {
			return
		}
		for i, e := range list {
			if i > 0 && bytes.Compare(list[i-1].key, e.key) >= 0 {
				t.Errorf("keys %q and %q", list[i-1].key, e.key)
			}
			if height > 0 && !bytes.HasPrefix(e.key, e.prefix) {
				t.Errorf("key %q, prefix %q", e.key, e.prefix)
			}
			if height == 0 && e.inline == nil && !strings.HasPrefix(e.place.file.path(), "base/") {
				t.Errorf("value in %q", e.place.file.path())
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(manifest("n", 0, 0, 10, 1)[14:])
	f.Add(manifest("n", 32, 1<<63, 10, 1<<40)[14:])
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := parseManifest(enclosed(body, manifestMagic)); err == nil && (r.height < 0 || r.height > mostHeight) {
			t.Errorf("height %d", r.height)
		}
	})
}

// Whatever is in the files, Open returns.
func FuzzOpen(f *testing.F) {
	node := leafOf(nil, value{key: "a", inline: "1"})
	f.Add(manifest("n", 0, 0, uint64(len(node)), 1), node)
	f.Fuzz(func(t *testing.T, m, n []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{Manifest: m, "n": n} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if d, err := Open(dir); err == nil {
			d.Close()
		}
	})
}
