package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tensor returns a small tensor of one element.
func tensor(name string) Tensor {
	return Tensor{Name: name, Type: U8, Shape: []int{1}, Data: []byte{byte(len(name))}}
}

// shardFiles writes two shards, a and b in the first and c in the second, and
// the given index ("" for none).
func shardFiles(t *testing.T, dir, index string) {
	t.Helper()
	save(t, filepath.Join(dir, "m-1.safetensors"), []Tensor{tensor("a"), tensor("b")}, nil)
	save(t, filepath.Join(dir, "m-2.safetensors"), []Tensor{tensor("c")}, nil)
	if index != "" {
		write(t, filepath.Join(dir, IndexFile), index)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

const goodMap = `"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"`

func TestOpen(t *testing.T) {
	for _, tt := range []struct{ name, index string }{
		{"original layout", ""},
		{"Hugging Face layout", `{"metadata":{"total_size":3,"format":"pt","x":1.5,"y":null,"z":true},"weight_map":{` + goodMap + "}}\n"},
		{"index without metadata", `{"weight_map":{` + goodMap + "}}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			shardFiles(t, dir, tt.index)
			write(t, filepath.Join(dir, ".m-1.safetensors"), "hidden, and no safetensors file")
			f, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			sameTensors(t, f.Tensors(), []Tensor{tensor("a"), tensor("b"), tensor("c")})
			if c, ok := f.Tensor("c"); !ok || c.File != "m-2.safetensors" {
				t.Errorf("c is %+v, %v, want it in m-2.safetensors", c, ok)
			}
			var names []string
			for _, x := range f.Files() {
				info, err := os.Stat(x.Path)
				if err != nil || info.Size() != x.Size {
					t.Errorf("%+v, and the file has %v", x, info)
				}
				names = append(names, x.Name)
			}
			if got := strings.Join(names, " "); got != "m-1.safetensors m-2.safetensors" || f.Dir() != dir {
				t.Errorf("files %s of %s", got, f.Dir())
			}
		})
	}
}

// A file that the index does not name is not part of the checkpoint.
func TestOpenFollowsTheIndex(t *testing.T) {
	dir := t.TempDir()
	shardFiles(t, dir, `{"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors"}}`)
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sameTensors(t, f.Tensors(), []Tensor{tensor("a"), tensor("b")})
}

func TestBadFolders(t *testing.T) {
	index := "checkpoint: model.safetensors.index.json: "
	for _, tt := range []struct{ name, index, want string }{
		{"shard in a folder above", `{"weight_map":{"a":"../m-1.safetensors"}}`, index + `a: shard "../m-1.safetensors": holds a separator, want the name of a file in the folder`},
		{"shard with dots", `{"weight_map":{"a":"m-1..safetensors"}}`, index + `a: shard "m-1..safetensors": holds .., want the name of a file in the folder`},
		{"shard in a folder below", `{"weight_map":{"a":"x/m-1.safetensors"}}`, index + `a: shard "x/m-1.safetensors": holds a separator, want the name of a file in the folder`},
		{"shard with a backslash", `{"weight_map":{"a":"x\\m-1.safetensors"}}`, index + `a: shard "x\\m-1.safetensors": holds a separator, want the name of a file in the folder`},
		{"shard by absolute path", `{"weight_map":{"a":"/m-1.safetensors"}}`, index + `a: shard "/m-1.safetensors": holds a separator, want the name of a file in the folder`},
		{"shard on another drive", `{"weight_map":{"a":"c:m-1.safetensors"}}`, index + `a: shard "c:m-1.safetensors": holds a separator, want the name of a file in the folder`},
		{"shard that is no safetensors file", `{"weight_map":{"a":"passwd"}}`, index + `a: shard "passwd": want a name like model-00001-of-00003.safetensors`},
		{"shard that is not printable", `{"weight_map":{"a":"m\u001b[31m.safetensors"}}`, index + `a: shard "m\x1b[31m.safetensors": not printable, want a name like model-00001-of-00003.safetensors`},
		{"hidden shard", `{"weight_map":{"a":".safetensors"}}`, index + `a: shard ".safetensors": want a name like model-00001-of-00003.safetensors`},
		{"shard is a number", `{"weight_map":{"a":1}}`, index + `1, want a string`},
		{"tensor twice in the index", `{"weight_map":{"a":"m-1.safetensors","a":"m-2.safetensors"}}`, index + `key "a" appears twice`},
		{"weight_map twice", `{"weight_map":{` + goodMap + `},"weight_map":{}}`, index + `key "weight_map" appears twice`},
		{"no weight_map", `{"metadata":{}}`, index + "no weight_map, or an empty one"},
		{"empty weight_map", `{"weight_map":{}}`, index + "no weight_map, or an empty one"},
		{"unknown field", `{"weights":{}}`, index + `unknown field "weights", want metadata and weight_map`},
		{"nested metadata", `{"metadata":{"a":{}},"weight_map":{` + goodMap + `}}`, index + "{ at byte 17, want a number or a string"},
		{"data after the index", `{"weight_map":{` + goodMap + `}} {}`, index + "data after its closing brace"},
		{"index cut off", `{"weight_map":{"a":`, index + "JSON ends at byte 19, want its closing brace"},
		{"index is not UTF-8", "{\"weight_map\":{\"\xff\":\"m-1.safetensors\"}}", index + "not valid UTF-8"},
		{"index leaves a tensor out", `{"weight_map":{"a":"m-1.safetensors","c":"m-2.safetensors"}}`, index + "b: missing, but m-1.safetensors holds it"},
		{"index places a tensor wrongly", `{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-2.safetensors"}}`, index + "b: placed in m-2.safetensors, but m-1.safetensors holds it"},
		{"index has a tensor too many", `{"weight_map":{` + goodMap + `,"d":"m-2.safetensors"}}`, index + "d: placed in m-2.safetensors, which does not hold it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			shardFiles(t, dir, tt.index)
			f, err := Open(dir)
			if err == nil {
				t.Fatalf("accepted: %+v", f.Tensors())
			}
			checkError(t, err, tt.want, false)
		})
	}
}

func TestBadFolderContents(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(t *testing.T, dir string)
		want  string // %s is the folder
	}{
		{"no folder", func(t *testing.T, dir string) { os.Remove(dir) }, "checkpoint: open %s: no such file or directory"},
		{"no safetensors files", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "config.json"), "{}") }, "checkpoint: %s: no *.safetensors and no model.safetensors.index.json"},
		{"tensor in two shards", func(t *testing.T, dir string) {
			shardFiles(t, dir, "")
			save(t, filepath.Join(dir, "m-3.safetensors"), []Tensor{tensor("b")}, nil)
		}, "checkpoint: m-3.safetensors: b: also in m-1.safetensors, want it once"},
		{"index names a missing shard", func(t *testing.T, dir string) {
			shardFiles(t, dir, `{"weight_map":{`+goodMap+`,"d":"m-3.safetensors"}}`)
		}, "checkpoint: lstat %s/m-3.safetensors: no such file or directory"},
		{"one bad shard", func(t *testing.T, dir string) {
			shardFiles(t, dir, "")
			write(t, filepath.Join(dir, "m-2.safetensors"), "short")
		}, "checkpoint: m-2.safetensors: 5 bytes, want at least 8"},
		{"shard is a folder", func(t *testing.T, dir string) {
			shardFiles(t, dir, "")
			if err := os.Mkdir(filepath.Join(dir, "x.safetensors"), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "checkpoint: x.safetensors: not a regular file"},
		{"file name with a newline", func(t *testing.T, dir string) {
			save(t, filepath.Join(dir, "a\nb.safetensors"), nil, nil)
		}, "checkpoint: \"a\\nb.safetensors\": file name is not printable"},
		{"symbolic link out of the folder", func(t *testing.T, dir string) {
			shardFiles(t, dir, "")
			save(t, filepath.Join(dir, "..", "out.safetensors"), []Tensor{tensor("d")}, nil)
			symlink(t, "../out.safetensors", filepath.Join(dir, "m-3.safetensors"))
		}, "checkpoint: m-3.safetensors: symbolic link to %s/../out.safetensors, want a file of the folder or, in a Hugging Face cache, a link into blobs/ of the same repository"},
		{"index is a symbolic link out of the folder", func(t *testing.T, dir string) {
			shardFiles(t, dir, "")
			write(t, filepath.Join(dir, "..", "index"), `{"weight_map":{`+goodMap+"}}")
			symlink(t, "../index", filepath.Join(dir, IndexFile))
		}, "checkpoint: model.safetensors.index.json: symbolic link to %s/../index, want a file of the folder or, in a Hugging Face cache, a link into blobs/ of the same repository"},
		{"broken symbolic link", func(t *testing.T, dir string) {
			symlink(t, "nowhere", filepath.Join(dir, "m.safetensors"))
		}, "checkpoint: lstat %s/nowhere: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(realDir(t), "folder")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			tt.build(t, dir)
			f, err := Open(dir)
			if err == nil {
				t.Fatalf("accepted: %+v", f.Tensors())
			}
			want := strings.ReplaceAll(tt.want, "%s/..", filepath.Dir(dir))
			if want = strings.ReplaceAll(want, "%s", dir); err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// realDir returns a temporary folder by a path without symbolic links.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The layout of a Hugging Face cache, and links that only look like it.
func TestHuggingFaceCache(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target string // of snapshots/rev/m-2.safetensors, relative to it
		ok     bool
	}{
		{"blob of the repository", "../../blobs/c", true},
		{"folder below blobs", "../../blobs/deep/c", false},
		{"blob of another repository", "../../../other/blobs/c", false},
		{"file of another snapshot", "../older/m-2.safetensors", false},
		{"file beside", "copy", false},
		{"file of the system", "/etc/hosts", false},
		{"blob that is a link itself", "../../blobs/link", false},
		{"blob that is a folder", "../../blobs/deep", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cache := realDir(t)
			repo := filepath.Join(cache, "models--openai--gpt-oss-20b")
			for _, path := range []string{"blobs", "blobs/deep", "snapshots/older", "snapshots/rev", "../other/blobs"} {
				if err := os.MkdirAll(filepath.Join(repo, path), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range []string{"blobs/c", "blobs/deep/c", "snapshots/older/m-2.safetensors", "snapshots/rev/copy", "../other/blobs/c"} {
				save(t, filepath.Join(repo, path), []Tensor{tensor("c")}, nil)
			}
			save(t, filepath.Join(repo, "blobs/ab"), []Tensor{tensor("a"), tensor("b")}, nil)
			symlink(t, "../../other/blobs/c", filepath.Join(repo, "blobs/link"))
			write(t, filepath.Join(repo, "blobs/index"), `{"weight_map":{`+goodMap+"}}")
			dir := filepath.Join(repo, "snapshots/rev")
			symlink(t, "../../blobs/ab", filepath.Join(dir, "m-1.safetensors"))
			symlink(t, "../../blobs/index", filepath.Join(dir, IndexFile))
			symlink(t, tt.target, filepath.Join(dir, "m-2.safetensors"))
			// The folder itself may be reached by any path: its user chose it.
			symlink(t, repo, filepath.Join(cache, "link"))
			t.Chdir(dir)
			for _, dir := range []string{dir, filepath.Join(cache, "link/snapshots/rev"), ".", "../rev", "../../snapshots/rev"} {
				f, err := Open(dir)
				if (err == nil) != tt.ok {
					t.Fatalf("%s: %v", dir, err)
				}
				if err != nil {
					var fe *FormatError
					if !errors.As(err, &fe) || fe.File != "m-2.safetensors" {
						t.Errorf("%v, want a FormatError about m-2.safetensors", err)
					}
					continue
				}
				if c, ok := f.Tensor("c"); !ok || c.File != "m-2.safetensors" {
					t.Errorf("c is %+v, want it in m-2.safetensors", c)
				}
				f.Close()
			}
		})
	}
}

// original/ of a cached repository lies one folder deeper.
func TestHuggingFaceCacheOriginal(t *testing.T) {
	repo := t.TempDir()
	if err := os.Mkdir(filepath.Join(repo, "blobs"), 0o777); err != nil {
		t.Fatal(err)
	}
	save(t, filepath.Join(repo, "blobs", "x"), []Tensor{tensor("a")}, nil)
	symlink(t, "../../../blobs/x", filepath.Join(repo, "snapshots/rev/original/model.safetensors"))
	f, err := Open(filepath.Join(repo, "snapshots/rev/original"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sameTensors(t, f.Tensors(), []Tensor{tensor("a")})
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), "12345")
	for most, want := range map[int64]string{5: "", 9: "", 4: "checkpoint: config.json: more than 4 bytes"} {
		data, err := ReadFile(dir, "config.json", most)
		if got := fmt.Sprint(err); want == "" && (err != nil || string(data) != "12345") || want != "" && got != want {
			t.Errorf("at most %d: %q, %v, want %q", most, data, err, want)
		}
	}
	if _, err := ReadFile(dir, "none", 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
}

// Whatever is accepted names files of the folder only.
func FuzzIndex(f *testing.F) {
	for _, s := range []string{
		`{"metadata":{"total_size":3},"weight_map":{` + goodMap + "}}\n", `{"weight_map":{"a":"../m.safetensors"}}`,
		`{"weight_map":{"a":"\u002e./m.safetensors"}}`, `{"weight_map":{"a":"m.safetensors"}} x`, `[`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		home, err := parseIndex(data)
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) {
				t.Errorf("%v is a %T", err, err)
			}
			if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 2000 {
				t.Errorf("message of %d bytes: %q", len(s), s)
			}
			return
		}
		if len(home) == 0 {
			t.Error("accepted an empty index")
		}
		for _, shard := range home {
			if filepath.Base(shard) != shard || !filepath.IsLocal(shard) || filepath.Ext(shard) != ".safetensors" {
				t.Errorf("accepted shard %q", shard)
			}
		}
	})
}
