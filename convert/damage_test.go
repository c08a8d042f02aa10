package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/internal/modeltest"
)

var mutations = flag.Int("mutations", 60, "how often each container is damaged at random")

// below returns the files of a folder that a conversion reads: not those in which
// Orbax keeps notes.
func below(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.Type().IsRegular() && name != "_sharding" && name != "_CHECKPOINT_METADATA" && !strings.Contains(path, "array_metadatas") {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// damage changes a file: bits, bytes, runs of zeros; cuts it, repeats a part of it,
// or removes it. now is nil if it is removed.
func damage(r *rand.Rand, was []byte) (now []byte, what string) {
	now = slices.Clone(was)
	at, n := r.IntN(len(now)), 1+r.IntN(min(200, len(now)))
	end := min(at+n, len(now))
	switch r.IntN(8) {
	case 0, 1, 2:
		now[at] ^= 1 << r.IntN(8)
		return now, fmt.Sprintf("a bit at %d", at)
	case 3:
		now[at] = byte(r.IntN(256))
		return now, fmt.Sprintf("a byte at %d", at)
	case 4:
		clear(now[at:end])
		return now, fmt.Sprintf("zeros from %d to %d", at, end)
	case 5:
		return now[:at], fmt.Sprintf("cut at %d", at)
	case 6:
		return slices.Concat(now[:end], now[at:]), fmt.Sprintf("%d to %d twice", at, end)
	}
	return nil, "removed"
}

// A container that is damaged anywhere is an error that leaves nothing. Where the
// format has no checksum of values, other values may come out; but never zeros in
// place of what was there, and never more that differs than a chunk.
//
// -mutations 2000 takes minutes.
func TestMutations(t *testing.T) {
	n := *mutations
	if testing.Short() { // for the race detector: every conversion starts the same goroutine
		n = min(n, 4)
	}
	kinds := append(fixtures(), "bf16", "bf16-hf")
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel() // each conversion waits for the disk
			var src, made string
			if strings.HasPrefix(kind, "bf16") {
				dir, from := unpack(t, "plain")
				layout := gptoss.Original
				if kind == "bf16-hf" {
					layout = gptoss.HuggingFace
				}
				src, made = mustWrite(t, dir, Options{KeepBF16: true, Layout: layout}), from
			} else {
				src, made = unpack(t, kind)
			}
			want, err := checkpoint.Open(mustWrite(t, src, Options{}))
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			_ = made
			files := below(t, src)
			// A file's chance is its size's, but small ones have one too.
			weights := make([]int, len(files))
			total := 0
			for i, path := range files {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				weights[i] = int(info.Size()) + 2000
				total += weights[i]
			}
			r := rand.New(rand.NewPCG(7, uint64(len(kind))))
			refused, taken := 0, 0
			for range n {
				i, at := 0, r.IntN(total)
				for ; at >= weights[i]; i++ {
					at -= weights[i]
				}
				was, err := os.ReadFile(files[i])
				if err != nil {
					t.Fatal(err)
				}
				now, what := damage(r, was)
				what = filepath.Base(files[i]) + ": " + what
				if now == nil {
					err = os.Remove(files[i])
				} else {
					err = os.WriteFile(files[i], now, 0o666)
				}
				if err != nil {
					t.Fatal(err)
				}
				if ok := survives(t, src, want, what); ok {
					taken++
				} else {
					refused++
				}
				if err := os.WriteFile(files[i], was, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d refused, %d taken", refused, taken)
			if refused == 0 {
				t.Error("nothing was refused")
			}
		})
	}
}

// survives converts and reports whether that went well; then it looks at what came
// out, else at what is left.
func survives(t *testing.T, src string, want *checkpoint.Folder, what string) bool {
	t.Helper()
	parent := t.TempDir()
	out := filepath.Join(parent, "out")
	_, err := Run(t.Context(), src, out, Options{})
	if err != nil {
		if list, errList := os.ReadDir(parent); errList != nil || len(list) > 0 {
			t.Errorf("%s: %v; left: %v, %v", what, err, list, errList)
		}
		if text := err.Error(); !strings.Contains(text, ": ") || strings.Contains(text, parent) {
			t.Errorf("%s: an error without a place: %v", what, err)
		}
		return false
	}
	got, err := checkpoint.Open(out)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer got.Close()
	differ := 0
	for _, x := range want.Tensors() {
		y, ok := got.Tensor(x.Name)
		if !ok {
			// config.json is not protected, but a config that fits the same arrays
			// has the same tensors.
			t.Errorf("%s: %s is not there", what, x.Name)
			continue
		}
		if bytes.Equal(x.Data, y.Data) {
			continue
		}
		differ++
		if zeroed(x.Data, y.Data) && !strings.Contains(what, "zeros from") {
			t.Errorf("%s: %s: zeros in place of values", what, x.Name)
		}
	}
	if differ > 2 { // a parameter in MXFP4 is two tensors
		t.Errorf("%s: %d tensors differ", what, differ)
	}
	os.RemoveAll(parent)
	return true
}

// zeroed reports whether 64 bytes that were not all zero are so now.
func zeroed(was, now []byte) bool {
	const run = 64
	zero := make([]byte, run)
	for i := 0; i+run <= min(len(was), len(now)); i += run {
		if bytes.Equal(now[i:i+run], zero) && !bytes.Equal(was[i:i+run], zero) {
			return true
		}
	}
	return false
}

// Each chunk of a folder of Orbax that is removed is an error that names it, also
// where _METADATA says that what equals the fill value was not stored.
func TestMissingChunks(t *testing.T) {
	for _, kind := range []string{"plain", "plain3"} {
		src, _ := unpack(t, kind)
		meta := filepath.Join(src, "0", "state", "_METADATA")
		text, err := os.ReadFile(meta)
		if err != nil {
			t.Fatal(err)
		}
		lazy := bytes.Replace(text, []byte(`"store_array_data_equal_to_fill_value": true`), []byte(`"store_array_data_equal_to_fill_value": false`), 1)
		if bytes.Equal(lazy, text) {
			t.Fatal("_METADATA has no store_array_data_equal_to_fill_value")
		}
		if err := os.WriteFile(meta, lazy, 0o666); err != nil {
			t.Fatal(err)
		}
		chunks := 0
		for _, path := range below(t, filepath.Join(src, "0")) {
			if base := filepath.Base(path); base == ".zarray" || base == "zarr.json" || base == "_METADATA" {
				continue
			}
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			key, err := filepath.Rel(filepath.Join(src, "0", "state"), path)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, src, Options{}, "chunk "+filepath.ToSlash(key)+" is missing")
			if err := os.WriteFile(path, was, 0o666); err != nil {
				t.Fatal(err)
			}
			chunks++
		}
		if chunks != 16 {
			t.Errorf("%s: %d chunks, want one of each parameter", kind, chunks)
		}
		mustWrite(t, src, Options{})
	}
}

// What is wrong with a folder of Orbax as a whole.
func TestOrbaxHazards(t *testing.T) {
	edit := func(key string, change func(o map[string]any)) func(t *testing.T, src string) {
		return func(t *testing.T, src string) {
			path := filepath.Join(src, "0", "state", key)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var o map[string]any
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatal(err)
			}
			change(o)
			if text, err = json.Marshal(o); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	leaf := func(change func(l map[string]any)) func(t *testing.T, src string) {
		return edit("_METADATA", func(o map[string]any) {
			change(o["tree_metadata"].(map[string]any)["('norm', 'scale')"].(map[string]any))
		})
	}
	keys := func(list ...string) func(l map[string]any) {
		return func(l map[string]any) {
			var all []any
			for _, k := range list {
				all = append(all, map[string]any{"key": k, "key_type": 2})
			}
			l["key_metadata"] = all
		}
	}
	raw := func(name, old, text string) func(t *testing.T, src string) {
		return func(t *testing.T, src string) {
			path := filepath.Join(src, "0", "state", name)
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(b, []byte(old)) {
				t.Fatalf("%v: %s", err, b)
			}
			if err := os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(text), 1), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, kind string
		edit       func(t *testing.T, src string)
		want       string
	}{
		{"a leaf is gone", "plain", edit("_METADATA", func(o map[string]any) { delete(o["tree_metadata"].(map[string]any), "('norm', 'scale')") }), "norm.scale/.zarray is stored, but _METADATA does not name it"},
		{"a leaf is gone from a database", "ocdbt", edit("_METADATA", func(o map[string]any) { delete(o["tree_metadata"].(map[string]any), "('norm', 'scale')") }), "is stored, but _METADATA does not name it"},
		{"two of one name", "plain", edit("_METADATA", func(o map[string]any) {
			l := map[string]any{"key_metadata": []any{map[string]any{"key": "norm.scale", "key_type": 2}}, "value_metadata": map[string]any{"value_type": "jax.Array"}}
			o["tree_metadata"].(map[string]any)["('norm.scale',)"] = l
		}), "norm.scale and norm/scale are stored as norm.scale both"},
		{"a key with a slash", "plain", leaf(keys("norm/scale")), `key "norm/scale", want one without /`},
		{"a key up", "plain", leaf(keys("..", "scale")), `key "..", want`},
		{"an empty key", "plain", leaf(keys("", "scale")), `key "", want`},
		{"no keys", "plain", leaf(keys()), "0 keys, want 1 to 8"},
		{"very many keys", "plain", leaf(keys("a", "a", "a", "a", "a", "a", "a", "a", "a")), "9 keys, want 1 to 8"},
		{"another leaf", "plain", leaf(keys("norm", "other")), "norm.other: no .zarray and no zarr.json"},
		{"a string", "plain", leaf(func(l map[string]any) { l["value_metadata"] = map[string]any{"value_type": "string"} }), `value_type "string", want an array`},
		{"an array of another type", "plain", raw("norm.scale/.zarray", `"bfloat16"`, `"|u1"`), "norm/scale: U8 [64], want BF16 [64]: packed without scales"},
		{"an array of another shape", "plain", raw("norm.scale/.zarray", `"shape":[64]`, `"shape":[65]`), "norm/scale: BF16 [65], want BF16 [64]"},
		{"a huge array", "plain", raw("norm.scale/.zarray", `"shape":[64]`, `"shape":[1073741824]`), "zarr: norm.scale"},
		{"a database that is not there", "plain", edit("_METADATA", func(o map[string]any) { o["use_ocdbt"] = true }), "no manifest.ocdbt, which _METADATA asks for"},
		{"folders that are not there", "ocdbt", edit("_METADATA", func(o map[string]any) { o["use_ocdbt"] = false }), "no .zarray and no zarr.json"},
		{"no use_ocdbt", "ocdbt", edit("_METADATA", func(o map[string]any) { delete(o, "use_ocdbt") }), "use_ocdbt is missing"},
		{"a key of JSON twice", "ocdbt", raw("_METADATA", `"use_ocdbt"`, `"use_ocdbt": true, "use_ocdbt"`), `key "use_ocdbt" appears twice`},
		{"no tree", "ocdbt", edit("_METADATA", func(o map[string]any) { o["tree_metadata"] = map[string]any{} }), "0 parameters, want 1"},
		{"a save that was not completed", "ocdbt", func(t *testing.T, src string) {
			must(t, os.Rename(filepath.Join(src, "0"), filepath.Join(src, "0.orbax-checkpoint-tmp")))
		}, "a save that was not completed"},
		{"two steps", "ocdbt", func(t *testing.T, src string) {
			must(t, os.CopyFS(filepath.Join(src, "1"), os.DirFS(filepath.Join(src, "0"))))
		}, "holds 2 items"},
		{"packed experts", "ocdbt", func(t *testing.T, src string) {
			must(t, os.WriteFile(filepath.Join(src, "_quantization_metadata.json"), []byte("{}"), 0o666))
		}, "packed without their scales"},
		{"no config", "ocdbt", func(t *testing.T, src string) { must(t, os.Remove(filepath.Join(src, configFile))) }, "want the model's config.json there or named by --config"},
		{"a chunk that is a link", "plain", func(t *testing.T, src string) {
			at := filepath.Join(src, "0", "state", "norm.scale", "0")
			must(t, os.Rename(at, filepath.Join(src, "away")))
			must(t, os.Symlink(filepath.Join(src, "away"), at))
		}, "not a regular file"},
		{"an array that is a link", "plain", func(t *testing.T, src string) {
			at := filepath.Join(src, "0", "state", "norm.scale")
			must(t, os.Rename(at, filepath.Join(src, "0", "state", "away")))
			must(t, os.Symlink("away", at))
		}, "orbax: norm.scale: not a folder"},
		{"an array that is a link out", "plain", func(t *testing.T, src string) {
			at := filepath.Join(src, "0", "state", "norm.scale")
			must(t, os.Rename(at, filepath.Join(src, "away")))
			must(t, os.Symlink(filepath.Join(src, "away"), at))
		}, "path escapes from parent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, _ := unpack(t, tt.kind)
			tt.edit(t, src)
			wantError(t, src, Options{}, tt.want)
		})
	}
}

// The item itself, the step and the folder above it are the same source.
func TestWhereOrbaxIs(t *testing.T) {
	src, made := unpack(t, "ocdbt")
	want := modeltest.Open(t, made)
	for _, at := range []string{".", "0", "0/state"} {
		sameValues(t, mustRun(t, filepath.Join(src, at), Options{}), want)
	}
	config := filepath.Join(t.TempDir(), "other.json")
	if err := os.Rename(filepath.Join(src, configFile), config); err != nil {
		t.Fatal(err)
	}
	sameValues(t, mustRun(t, src, Options{Config: config}), want)
}

// One byte of a float in msgpack or safetensors that is changed in an expert is no
// MXFP4 block any more, nearly always.
func TestExpertsAreTheirOwnChecksum(t *testing.T) {
	src, _ := unpack(t, "msgpack-chunks")
	path := filepath.Join(src, "model.msgpack")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(was, []byte("mlp1_weight"))
	at += bytes.Index(was[at:], []byte("chunks")) + 200
	refused := 0
	const n = 50
	for i := range n {
		now := slices.Clone(was)
		v := binary.LittleEndian.Uint16(now[at+2*i:])
		binary.LittleEndian.PutUint16(now[at+2*i:], v^1<<(i%6))
		if err := os.WriteFile(path, now, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), src, filepath.Join(t.TempDir(), "out"), Options{}); err != nil {
			refused++
		}
	}
	if refused != n {
		t.Errorf("%d of %d changes of low bits refused", refused, n)
	}
}
