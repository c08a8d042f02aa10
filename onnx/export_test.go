package onnx_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/golden"
	"ossify/internal/modeltest"
	"ossify/onnx"
	"ossify/onnx/examples"
	"ossify/onnx/ort"
	"ossify/onnx/wire"
	"ossify/synth"
	"ossify/weight"
)

var update = flag.Bool("update", false, "write testdata/*.txt anew")

// tiny opens a synthetic checkpoint.
func tiny(t *testing.T, layout gptoss.Dialect) (*gptoss.Checkpoint, *weight.Set, string) {
	t.Helper()
	dir := modeltest.Write(t, modeltest.Tiny(t), layout, 1)
	ck := modeltest.Open(t, dir)
	return ck, ck.Weights, dir
}

func export(t *testing.T, g *graph.Graph, src *weight.Set, opt onnx.Options, dir string) (*onnx.Model, *onnx.Result) {
	t.Helper()
	r, err := onnx.Export(t.Context(), g, src, opt, dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Read(filepath.Join(dir, onnx.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	return m, r
}

func text(t *testing.T, m *onnx.Model) string {
	t.Helper()
	var b strings.Builder
	if err := m.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The text form of each example is what it was: a change of the exporter shows
// in review. Its chain of operators is there.
func TestExamples(t *testing.T) {
	ck, src, dir := tiny(t, gptoss.Original)
	for _, e := range examples.All() {
		t.Run(e.Name, func(t *testing.T) {
			g := e.Graph(ck.Graph)
			e.Options.InPlace = true
			m, _ := export(t, g, src, e.Options, dir)
			path := filepath.Join("testdata", strings.ReplaceAll(e.Name, " ", "_")+".txt")
			got := text(t, m)
			if want := golden.Text(t, path, got, *update); got != want {
				t.Errorf("differs from %s in %s", path, firstDifference(got, want))
			}

			flat := e.Options
			flat.Inline = true
			m, _ = export(t, g, src, flat, dir)
			if chain := strings.Fields(e.Chain); !hasChain(text(t, m), chain) {
				t.Errorf("no chain %v", chain)
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d:\n%s\nwant\n%s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("length: %d lines, want %d", len(g), len(w))
}

// hasChain reports whether some nodes of a flat model's text, each reading the
// one before it, are of these operators.
func hasChain(text string, chain []string) bool {
	type node struct {
		op  string
		ins []string
	}
	nodes := map[string]node{} // by output
	readers := map[string][]string{}
	for line := range strings.Lines(text) {
		outs, rest, ok := strings.Cut(strings.TrimSpace(line), " = ")
		op, rest, ok2 := strings.Cut(rest, "(")
		if !ok || !ok2 {
			continue
		}
		ins := strings.Split(rest[:strings.LastIndex(rest, ")")], ", ")
		for _, out := range strings.Split(outs, ", ") {
			nodes[out] = node{op, ins}
			for _, in := range ins {
				readers[in] = append(readers[in], out)
			}
		}
	}
	var follow func(out string, chain []string) bool
	follow = func(out string, chain []string) bool {
		if nodes[out].op != chain[0] {
			return false
		}
		return len(chain) == 1 || slices.ContainsFunc(readers[out], func(r string) bool { return follow(r, chain[1:]) })
	}
	if len(chain) == 0 {
		return true
	}
	for out := range nodes {
		if follow(out, chain) {
			return true
		}
	}
	return false
}

// Functions change nothing: expanded they are the flat graph.
func TestFunctionsExpandToTheFlatGraph(t *testing.T) {
	ck, src, dir := tiny(t, gptoss.Original)
	graphs := map[string]*graph.Graph{"clean": ck.Graph}
	for _, f := range fault.Table() {
		if f.Graph != nil && !f.Decode && f.From == 0 {
			graphs[f.Name] = f.Graph(ck.Graph)
		}
	}
	for name, g := range graphs {
		folded, _ := export(t, g, src, onnx.Options{Trace: true, InPlace: true}, dir)
		flat, _ := export(t, g, src, onnx.Options{Trace: true, Inline: true, InPlace: true}, dir)
		a, b := folded.Summary(), flat.Summary()
		if fmt.Sprint(a.Operators) != fmt.Sprint(b.Operators) {
			t.Errorf("%s: %v, want %v", name, a.Operators, b.Operators)
		}
		if len(b.Functions) != 0 || len(a.Functions) == 0 || a.Nodes > 20 {
			t.Errorf("%s: %d functions and %d nodes, flat %d", name, len(a.Functions), a.Nodes, len(b.Functions))
		}
		for _, f := range a.Functions {
			if f.Calls < 1 {
				t.Errorf("%s: %s is never called", name, f.Name)
			}
		}
		outputs := map[string]bool{}
		for _, o := range a.Outputs {
			outputs[o.Name] = true
		}
		for _, n := range g.Nodes {
			if !outputs[n.Name] {
				t.Errorf("%s: stage %s is no output", name, n.Name)
			}
		}
	}
}

// No function has the name of a standard operator: some tools do not look at
// the domain. The calls of a model say which layer they are.
func TestFunctionNames(t *testing.T) {
	ck, src, dir := tiny(t, gptoss.Original)
	m, _ := export(t, ck.Graph, src, onnx.Options{InPlace: true, Name: "gpt-oss-tiny", Titles: map[string]string{"swiglu": "ClampedSwiGLU"}}, dir)
	s := m.Summary()
	standard := []string{"Attention", "Clip", "Gather", "GroupQueryAttention", "MoE", "RMSNormalization", "RotaryEmbedding", "Softmax", "SwiGLU", "Swish", "TopK"}
	for _, f := range s.Functions {
		_, name, _ := strings.Cut(f.Name, "::")
		if s.Operators[name] > 0 || slices.Contains(standard, name) {
			t.Errorf("a function is called %s", name)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, onnx.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire.Model{}
	if err := wire.Decode(data, w); err != nil {
		t.Fatal(err)
	}
	var calls []string
	for _, n := range w.Graph.Nodes {
		if strings.HasPrefix(n.Name, "block.") {
			calls = append(calls, n.Name)
		}
	}
	if !slices.Equal(calls, []string{"block.0", "block.1", "block.2", "block.3"}) || w.Graph.Name != "gpt-oss-tiny" {
		t.Errorf("calls %v of graph %q", calls, w.Graph.Name)
	}
	for _, f := range w.Functions {
		if f.Doc == "" {
			t.Errorf("%s has no doc string", f.Name)
		}
	}
	described := map[string]bool{}
	for _, v := range w.Graph.Values {
		elem, dims := v.Describe()
		described[v.Name] = elem == "float" && len(dims) >= 3 && dims[0] == "batch_size" && dims[1] == "sequence_length"
	}
	if !described["block.1.mlp"] || !described["embedding"] {
		t.Errorf("described are %v", described)
	}
}

// Faulty models differ from the clean one in their text.
func TestFaultsShow(t *testing.T) {
	ck, src, dir := tiny(t, gptoss.Original)
	clean, _ := export(t, ck.Graph, src, onnx.Options{InPlace: true}, dir)
	seen := map[string]string{text(t, clean): "the clean model"}
	for _, f := range fault.Table() {
		if f.Graph == nil || f.Decode || f.From > 0 { // the file is that of another fault, used in part
			continue
		}
		m, _ := export(t, f.Graph(ck.Graph), src, onnx.Options{InPlace: true}, dir)
		got := text(t, m)
		if strings.HasSuffix(f.Stage, ".rope.q") { // differs within tables
			data, err := os.ReadFile(filepath.Join(dir, onnx.ModelFile))
			if err != nil {
				t.Fatal(err)
			}
			got += fmt.Sprintf("%x", data)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s looks like %s", f.Name, other)
		}
		seen[got] = f.Name
	}
}

// Whatever way weights are exported, the bytes that initializers refer to are
// those of the checkpoint.
func TestBytesAreTheCheckpoints(t *testing.T) {
	for _, layout := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
		ck, src, from := tiny(t, layout)
		ways := []struct {
			name  string
			opt   onnx.Options
			files int // data files
		}{
			{"in place", onnx.Options{InPlace: true}, 0},
			{"one file", onnx.Options{}, 1},
			{"aligned for Windows", onnx.Options{Align: 65536}, 1},
			{"not aligned", onnx.Options{Align: 1}, 1},
			{"shards", onnx.Options{ShardSize: 150000}, 5},
			{"shards smaller than tensors", onnx.Options{ShardSize: 30000}, 10},
		}
		for _, w := range ways {
			t.Run(layout.String()+" "+w.name, func(t *testing.T) {
				dir := t.TempDir()
				if w.opt.InPlace {
					dir = from
				}
				before := list(t, dir)
				m, result := export(t, ck.Graph, src, w.opt, dir)
				if got := list(t, dir); !slices.Equal(got, sorted(append(before, result.Files...))) {
					t.Errorf("folder holds %v, result says %v", got, result.Files)
				}
				if n := len(result.Files) - 1; n < w.files || w.files == 1 && n != 1 || w.files == 0 && n != 0 {
					t.Errorf("data files %v, want %d", result.Files[1:], w.files)
				}
				want := map[string][]byte{}
				for p, param := range ck.Graph.Params {
					for i, s := range src.Sources(p) {
						name, first := param.Name, 0
						for _, b := range src.Sources(p)[:i] {
							first += b.Data.Shape[0]
						}
						if len(src.Sources(p)) > 1 {
							name = fmt.Sprintf("%s[%d:%d]", name, first, first+s.Data.Shape[0])
						}
						if param.Storage == graph.MXFP4 {
							want[name+".scales"] = s.Scales.Data
							name += ".blocks"
						}
						want[name] = s.Data.Data
					}
				}
				for _, in := range m.Summary().Initializers {
					if in.File == "" {
						continue
					}
					data, err := os.ReadFile(filepath.Join(dir, in.File))
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(data[in.Offset:in.Offset+in.Bytes], want[in.Name]) {
						t.Errorf("%s: not the checkpoint's bytes", in.Name)
					}
					if align := max(w.opt.Align, 1); !w.opt.InPlace && in.Offset%align != 0 {
						t.Errorf("%s: at %d, want a multiple of %d", in.Name, in.Offset, align)
					}
					if w.opt.ShardSize > 0 && int64(len(data)) > max(w.opt.ShardSize, in.Bytes) {
						t.Errorf("%s: %d bytes, want at most %d", in.File, len(data), w.opt.ShardSize)
					}
					delete(want, in.Name)
				}
				for name := range want {
					t.Errorf("%s is not in the model", name)
				}
			})
		}
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	names, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func sorted(s []string) []string { slices.Sort(s); return slices.Compact(s) }

// Two exports are the same bytes.
func TestExportIsDeterministic(t *testing.T) {
	ck, src, _ := tiny(t, gptoss.HuggingFace)
	var first []byte
	for i := range 3 {
		dir := t.TempDir()
		export(t, ck.Graph, src, onnx.Options{Trace: true, Metadata: map[string]string{"a": "1", "b": "2", "c": "3"}}, dir)
		data, err := os.ReadFile(filepath.Join(dir, onnx.ModelFile))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = data
		} else if !bytes.Equal(data, first) {
			t.Fatal("differs from the first")
		}
	}
}

// Changed weights, in no file, are written from memory.
func TestEditedWeights(t *testing.T) {
	ck, _, from := tiny(t, gptoss.HuggingFace)
	for _, f := range fault.Table() {
		if f.Weight == nil {
			continue
		}
		heads := ck.Graph.Nodes[slices.IndexFunc(ck.Graph.Nodes, func(n graph.Node) bool { return n.Op == graph.Attend })].Heads
		w := ck.Weights.Edited(func(p graph.Param, data, scales []byte) bool { return f.Weight(p, heads, data, scales) })
		src, dir := w, t.TempDir()
		m, _ := export(t, ck.Graph, src, onnx.Options{}, dir)
		changed := 0
		for p, param := range ck.Graph.Params {
			for _, s := range src.Sources(p) {
				if s.Data.File != "" {
					continue
				}
				changed++
				name := param.Name
				if param.Storage == graph.MXFP4 {
					name += ".blocks"
				}
				i := slices.IndexFunc(m.Summary().Initializers, func(in onnx.Initializer) bool { return in.Name == name })
				if i < 0 {
					t.Fatalf("%s: no initializer %s", f.Name, name)
				}
				in := m.Summary().Initializers[i]
				data, err := os.ReadFile(filepath.Join(dir, in.File))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(data[in.Offset:in.Offset+in.Bytes], s.Data.Data) {
					t.Errorf("%s: %s: not the changed bytes", f.Name, name)
				}
			}
		}
		if changed == 0 {
			t.Errorf("%s: changed nothing", f.Name)
		}
		if _, err := onnx.Export(t.Context(), ck.Graph, src, onnx.Options{InPlace: true}, from); err == nil {
			t.Errorf("%s: exported in place", f.Name)
		}
	}
}

// remade returns weights of which the first tensor, or the files, are said to be
// elsewhere.
func remade(t *testing.T, w *weight.Set, edit func(first *checkpoint.Tensor, files []checkpoint.FileInfo)) *weight.Set {
	t.Helper()
	sources, files := make([][]weight.Source, len(w.Params())), slices.Clone(w.Files())
	for p := range sources {
		sources[p] = slices.Clone(w.Sources(p))
	}
	edit(&sources[0][0].Data, files)
	out, err := weight.New(w.Params(), sources, files)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// beside lets an export write one more file.
func beside(name string) []onnx.File {
	return []onnx.File{{Name: name, Make: func(onnx.Made) ([]byte, error) { return []byte("{}"), nil }}}
}

// A failed export leaves the folder as it was.
func TestNothingIsLeft(t *testing.T) {
	same := func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set { return w }
	tests := []struct {
		name string
		opt  onnx.Options
		edit func(cancel func(), w *weight.Set, opt *onnx.Options) *weight.Set
		want string
	}{
		{"cancelled before", onnx.Options{}, func(cancel func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			cancel()
			return w
		}, "context canceled"},
		{"cancelled within", onnx.Options{ShardSize: 90000}, func(cancel func(), w *weight.Set, opt *onnx.Options) *weight.Set {
			opt.Progress = func(int64, int64) { cancel() }
			return w
		}, "context canceled"},
		{"a source that shrank", onnx.Options{}, func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			return remade(t, w, func(first *checkpoint.Tensor, _ []checkpoint.FileInfo) { first.Offset += 1 << 30 })
		}, "shorter than when it was opened"},
		{"a source that shrinks while it is mapped", onnx.Options{}, func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			if err := os.Truncate(w.Files()[0].Path, 4096); err != nil {
				t.Fatal(err)
			}
			return w
		}, "shorter than when it was opened"},
		{"a source that is gone", onnx.Options{}, func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			return remade(t, w, func(_ *checkpoint.Tensor, files []checkpoint.FileInfo) { files[0].Path += ".gone" })
		}, "no such file"},
		{"a negative shard size", onnx.Options{ShardSize: -1}, same, "shard size -1, want 0 or more"},
		{"a value beyond float16", onnx.Options{Weights: wire.Float16}, func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			return w.Edited(func(p graph.Param, data, _ []byte) bool {
				if p.Name != "block.1.attn.qkv.weight" {
					return false
				}
				i := 3*p.Shape[1] + 17
				data[2*i], data[2*i+1] = 0x80, 0x47 // 65536
				return true
			})
		}, "block.1.attn.qkv.weight[3 17] is 65536, want at most 65504 for float16"},
		{"a scale that is NaN", onnx.Options{}, func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			return w.Edited(func(p graph.Param, _, scales []byte) bool {
				if p.Name == "block.2.mlp.mlp1_weight" {
					scales[5] = 255
				}
				return p.Name == "block.2.mlp.mlp1_weight"
			})
		}, "scale 255, which is NaN, at 5, want at most 254"},
		{"a file that may not be written", onnx.Options{Files: beside("folder")}, same, "a folder, want a regular file"},
		{"a file that is read", onnx.Options{}, func(_ func(), _ *weight.Set, opt *onnx.Options) *weight.Set {
			return nil
		}, "is read as"},
		{"an odd alignment", onnx.Options{Align: 4095}, same, "want a power of two"},
		{"an unknown file", onnx.Options{}, func(_ func(), w *weight.Set, _ *onnx.Options) *weight.Set {
			return remade(t, w, func(_ *checkpoint.Tensor, files []checkpoint.FileInfo) { files[0].Name = "other" })
		}, "not among the sources' files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ck, src, _ := tiny(t, gptoss.Original)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			opt, dir := tt.opt, t.TempDir()
			// Of a former export, all stays: its model, its data, its shards.
			export(t, ck.Graph, src, onnx.Options{ShardSize: 200000, Trace: true}, dir)
			if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			edited := tt.edit(cancel, src, &opt)
			if edited == nil {
				edited, opt.Inputs = src, []string{filepath.Join(dir, onnx.DataFile)}
			}
			r, err := onnx.Export(ctx, ck.Graph, edited, opt, dir)
			if err == nil || r != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v and %v, want %q", r, err, tt.want)
			}
			if after := contents(t, dir); !maps.Equal(after, before) {
				t.Errorf("left %v", slices.Sorted(maps.Keys(after)))
			}
		})
	}
}

// contents returns the files of a folder, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range list(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && name != "folder" {
			t.Fatal(err)
		}
		all[name] = string(data)
	}
	return all
}

// An export in place takes memory for the model of ONNX, once: not for copies of
// it, nor for functions that are alike, nor for its tables.
func TestExportInPlaceTakesLittleMemory(t *testing.T) {
	c, err := gptoss.Preset("20b")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := synth.Zeros(t.Context(), dir, c, gptoss.Original); err != nil {
		t.Fatal(err)
	}
	ck := modeltest.Open(t, dir)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := onnx.Export(t.Context(), ck.Graph, ck.Weights, onnx.Options{InPlace: true}, dir); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	const most = 5 << 20 // 4.4 MB are needed, and 27 were
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("%d bytes allocated, want at most %d", n, most)
	}
}

// Only a former export is replaced, and all of it: what is of another's making
// stays, unless it is said otherwise; shards that a new export has not are gone.
func TestWhatIsReplaced(t *testing.T) {
	ck, src, _ := tiny(t, gptoss.Original)
	dir := t.TempDir()
	shards := onnx.Options{ShardSize: 200000, Files: beside("config.json")}
	export(t, ck.Graph, src, shards, dir)
	if n := len(list(t, dir)); n < 5 {
		t.Fatalf("%d files", n)
	}
	// A model may name what it likes: only names that exports write count.
	path := filepath.Join(dir, onnx.ModelFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &wire.Model{}
	if err := wire.Decode(data, m); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.Metadata {
		if e.Key == "ossify.files" {
			e.Value += "\nprecious.txt\n../model.onnx_data"
		}
	}
	m.Graph.Initializers[0].External = wire.Place{File: "precious.txt"}.Entries()
	if err := errors.Join(os.WriteFile(path, wire.Encode(m), 0o666), os.WriteFile(filepath.Join(dir, "precious.txt"), []byte("precious"), 0o666)); err != nil {
		t.Fatal(err)
	}
	export(t, ck.Graph, src, onnx.Options{}, dir)
	if got, want := list(t, dir), []string{"config.json", "model.onnx", "model.onnx_data", "precious.txt"}; !slices.Equal(got, want) {
		t.Errorf("after an export without shards: %v, want %v", got, want)
	}
	for _, file := range []string{onnx.ModelFile, onnx.DataFile, "config.json"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, file), []byte("other"), 0o666); err != nil {
			t.Fatal(err)
		}
		opt := shards
		opt.Progress = func(int64, int64) {
			if file != onnx.DataFile {
				t.Errorf("%s of another's: copied before it was refused", file)
			}
		}
		if _, err := onnx.Export(t.Context(), ck.Graph, src, opt, dir); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s of another's: %v", file, err)
		}
		opt.Force, opt.Progress = true, nil
		export(t, ck.Graph, src, opt, dir)
	}
	if err := os.Symlink(filepath.Join(dir, onnx.ModelFile), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, onnx.ModelFile), filepath.Join(linked, onnx.ModelFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Export(t.Context(), ck.Graph, src, onnx.Options{}, linked); err == nil || !strings.Contains(err.Error(), "a symbolic link") {
		t.Errorf("a link: %v", err)
	}
}

// Weights converted on the way are the values of the checkpoint, however they
// are laid out; files of 16 bits and 32 alike.
func TestConversions(t *testing.T) {
	ck, src, from := tiny(t, gptoss.HuggingFace)
	for _, kind := range []wire.DataType{wire.Float, wire.Float16} {
		for _, opt := range []onnx.Options{{}, {Align: 1}, {ShardSize: 100000}} {
			opt.Weights = kind
			dir := t.TempDir()
			m, _ := export(t, ck.Graph, src, opt, dir)
			values := map[string][]float64{} // of a parameter, parts in order
			for _, in := range m.Summary().Initializers {
				if in.Type == "bfloat16" {
					t.Errorf("%v: %s is bfloat16 still", kind, in.Name)
				}
				if in.File == "" || in.Type != kind.String() && in.Type != "float" {
					continue
				}
				data, err := os.ReadFile(filepath.Join(dir, in.File))
				if err != nil {
					t.Fatal(err)
				}
				x := ort.Tensor{Type: map[string]checkpoint.DType{"float": checkpoint.F32, "float16": checkpoint.F16}[in.Type], Data: data[in.Offset:][:in.Bytes]}
				name, _, _ := strings.Cut(in.Name, "[")
				values[name] = append(values[name], x.Float64s()...)
			}
			for p, param := range ck.Graph.Params {
				if param.Storage == graph.MXFP4 {
					continue
				}
				got, row := values[param.Name], make([]float64, weight.Columns(param))
				if len(got) != weight.Rows(param)*len(row) {
					t.Fatalf("%v: %s: %d values", kind, param.Name, len(got))
				}
				for i := range weight.Rows(param) {
					src.Row(p, i, row)
					for j, want := range row {
						// Below 2⁻¹⁴, float16 has units of 2⁻²⁴.
						if v := got[i*len(row)+j]; !(v == want || kind == wire.Float16 && math.Abs(want) < math.Ldexp(1, -14) && math.Abs(v-want) <= math.Ldexp(1, -25)) {
							t.Fatalf("%v: %s: row %d, column %d is %g, want %g", kind, param.Name, i, j, v, want)
						}
					}
				}
			}
		}
	}
	if _, err := onnx.Export(t.Context(), ck.Graph, src, onnx.Options{InPlace: true, Weights: wire.Float}, from); err == nil || !strings.Contains(err.Error(), "BF16 in its file, want that in place, not float") {
		t.Errorf("converted in place: %v", err)
	}
}

// In place, the sources must be files of the folder.
func TestInPlaceRefusesLinks(t *testing.T) {
	ck, src, from := tiny(t, gptoss.Original)
	dir := t.TempDir()
	if _, err := onnx.Export(t.Context(), ck.Graph, src, onnx.Options{InPlace: true}, dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into another folder: %v", err)
	}
	name := src.Files()[0].Name
	if err := os.Symlink(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Export(t.Context(), ck.Graph, src, onnx.Options{InPlace: true}, dir); err == nil || !strings.Contains(err.Error(), "a link, which runtimes refuse") {
		t.Errorf("a link: %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, name)), os.WriteFile(filepath.Join(dir, name), nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Export(t.Context(), ck.Graph, src, onnx.Options{InPlace: true}, dir); err == nil || !strings.Contains(err.Error(), "not the file of that name") {
		t.Errorf("another file: %v", err)
	}
}

// What the target cannot take is refused by name.
func TestExportRefuses(t *testing.T) {
	ck, src, _ := tiny(t, gptoss.Original)
	tests := []struct {
		name string
		edit func(g *graph.Graph, o *onnx.Options)
		want string
	}{
		{"weights of another graph", func(g *graph.Graph, _ *onnx.Options) { g.Params = g.Params[1:] }, "onnx: weight: a set of 55 parameters, want one of 54"},
		{"a slash in a path", func(g *graph.Graph, _ *onnx.Options) { g.Nodes[2].Name = "a/b" }, "want a stage path without a slash"},
		{"last position of attention", func(g *graph.Graph, o *onnx.Options) {
			o.LastOnly = true
			i := slices.IndexFunc(g.Nodes, func(n graph.Node) bool { return n.Op == graph.Attend })
			g.Nodes = g.Nodes[:i+1]
		}, "want one that goes by rows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := ck.Graph.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value { return emit(n) })
			o := onnx.Options{}
			tt.edit(g, &o)
			if _, err := onnx.Export(t.Context(), g, src, o, t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
