package convert

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/float"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/modeltest"
	"ossify/weight"
)

// fixtures are containers of one small model that other programs wrote
// (tools/containers).
func fixtures() []string { return []string{"ocdbt", "plain", "plain3", "chunks3", "msgpack-chunks"} }

// unpack returns the folder of a fixture, and the checkpoint that it was made of.
func unpack(t testing.TB, kind string) (dir, made string) {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join("testdata", kind+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir = filepath.Join(t.TempDir(), kind)
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	c, _, err := parseConfig(filepath.Join(dir, configFile))
	if err != nil {
		t.Fatal(err)
	}
	return dir, modeltest.Write(t, c, gptoss.Original, 1)
}

// mustRun converts and opens what came out.
func mustRun(t testing.TB, src string, opt Options) *gptoss.Checkpoint {
	t.Helper()
	return modeltest.Open(t, mustWrite(t, src, opt))
}

// mustWrite converts and returns the folder.
func mustWrite(t testing.TB, src string, opt Options) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out", "below")
	if _, err := Run(t.Context(), src, dir, opt); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sameValues compares every value of every parameter, bit for bit.
func sameValues(t testing.TB, got, want *gptoss.Checkpoint) {
	t.Helper()
	if *got.Config != *want.Config {
		t.Fatalf("configuration %+v, want %+v", *got.Config, *want.Config)
	}
	for i, p := range want.Graph.Params {
		x, y := make([]float32, weight.Columns(p)), make([]float32, weight.Columns(p))
		for row := range weight.Rows(p) {
			got.Weights.Row32(i, row, x)
			want.Weights.Row32(i, row, y)
			for j := range x {
				if math.Float32bits(x[j]) != math.Float32bits(y[j]) {
					t.Fatalf("%s: row %d, column %d is %v, want %v", p.Name, row, j, x[j], y[j])
				}
			}
		}
	}
}

// sameLogits compares what the engine computes, bit for bit.
func sameLogits(t testing.TB, got, want *gptoss.Checkpoint) {
	t.Helper()
	for _, p := range []engine.Precision{engine.BF16, engine.F32} {
		var logits [2][]float32
		for i, ck := range []*gptoss.Checkpoint{got, want} {
			m, err := ck.Engine(t.Context(), engine.Options{Precision: p})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			tokens := modeltest.Tokens(20, 1, 2)
			for j := range tokens {
				tokens[j] %= uint32(ck.Config.Vocab)
			}
			if logits[i], err = m.NewSession().Forward(t.Context(), tokens); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.EqualFunc(logits[0], logits[1], func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) }) {
			t.Errorf("%v: logits differ", p)
		}
	}
}

// layouts are those that are written.
func layouts() []gptoss.Dialect { return []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} }

// What other programs wrote becomes the checkpoint that it was made of. In panels
// of few rows too: of matrices, and over several.
func TestContainersOfOthers(t *testing.T) {
	for _, kind := range fixtures() {
		src, made := unpack(t, kind)
		want := modeltest.Open(t, made)
		for _, layout := range layouts() {
			for _, panel := range []int{700, 0} {
				t.Run(fmt.Sprint(kind, " ", layout, " ", panel), func(t *testing.T) {
					got := mustRun(t, src, Options{Layout: layout, panelMost: panel})
					sameValues(t, got, want)
					sameLogits(t, got, want)
				})
			}
		}
	}
}

// rewritten writes the tensors of a checkpoint, changed by edit, with a config.json.
func rewritten(t testing.TB, from string, edit func(t checkpoint.Tensor) []checkpoint.Tensor, config func([]byte) []byte) string {
	t.Helper()
	f, err := checkpoint.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []checkpoint.Tensor
	for _, x := range f.Tensors() {
		list = append(list, edit(x)...)
	}
	dir := t.TempDir()
	if err := checkpoint.Save(filepath.Join(dir, "model.safetensors"), list, nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(from, configFile))
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		text = config(text)
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), text, 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// widened returns a tensor in float32.
func widened(x checkpoint.Tensor) checkpoint.Tensor {
	if x.Type != checkpoint.BF16 {
		return x
	}
	x.Type, x.Data = checkpoint.F32, func() []byte {
		b := make([]byte, 2*len(x.Data))
		float.EncodeF32(b, float.BF16Bytes(x.Data))
		return b
	}()
	return x
}

// A checkpoint in any of its forms becomes any other, and comes back: layouts,
// experts in bfloat16, values in float32.
func TestForms(t *testing.T) {
	c := modeltest.Tiny(t)
	original := modeltest.Write(t, c, gptoss.Original, 5)
	want := modeltest.Open(t, original)
	decoded := map[gptoss.Dialect]string{}
	for _, layout := range layouts() {
		decoded[layout] = mustWrite(t, original, Options{Layout: layout, KeepBF16: true})
	}
	sources := map[string]string{
		"original": original, "hf": modeltest.Write(t, c, gptoss.HuggingFace, 5),
		"original bf16": decoded[gptoss.Original], "hf bf16": decoded[gptoss.HuggingFace],
	}
	for _, name := range []string{"original bf16", "hf bf16"} {
		sources[name+" in f32"] = rewritten(t, sources[name], func(x checkpoint.Tensor) []checkpoint.Tensor { return []checkpoint.Tensor{widened(x)} }, nil)
	}
	for name, src := range sources {
		for _, layout := range layouts() {
			t.Run(name+" to "+layout.String(), func(t *testing.T) {
				got := mustRun(t, src, Options{Layout: layout, panelMost: 5000})
				sameValues(t, got, want)
				if !strings.Contains(name, "bf16") {
					// MXFP4 stays as it is, to the byte.
					same := sources[layout.String()]
					for _, f := range got.Folder.Files() {
						a, errA := os.ReadFile(f.Path)
						b, errB := os.ReadFile(filepath.Join(same, f.Name))
						if errA != nil || errB != nil || !bytes.Equal(a, b) {
							t.Errorf("%s: other bytes (%v, %v)", f.Name, errA, errB)
						}
					}
				}
				again := mustWrite(t, src, Options{Layout: layout, KeepBF16: true, panelMost: 5000})
				compareFolders(t, again, decoded[layout])
			})
		}
	}
}

// compareFolders demands the same files of the same bytes.
func compareFolders(t testing.TB, got, want string) {
	t.Helper()
	a, b := contents(t, got), contents(t, want)
	for name := range b {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s: other bytes, %d and %d", name, len(a[name]), len(b[name]))
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d files, want %d", len(a), len(b))
	}
}

// contents returns the files of a folder.
func contents(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range list {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// With experts in bfloat16, config.json and dtypes.json say so, and the engine,
// which wants MXFP4, refuses the folder.
func TestKeepBF16(t *testing.T) {
	src := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 5)
	for _, layout := range layouts() {
		dir := mustWrite(t, src, Options{Layout: layout, KeepBF16: true})
		all := contents(t, dir)
		var config map[string]any
		if err := json.Unmarshal(all[configFile], &config); err != nil {
			t.Fatal(err)
		}
		if _, ok := config["quantization_config"]; ok {
			t.Errorf("%v: a quantization_config", layout)
		}
		if layout == gptoss.Original {
			var types map[string]string
			if err := json.Unmarshal(all["dtypes.json"], &types); err != nil {
				t.Fatal(err)
			}
			f, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if len(types) != len(f.Tensors()) {
				t.Errorf("%d types of %d tensors", len(types), len(f.Tensors()))
			}
			for _, x := range f.Tensors() {
				if types[x.Name] != x.Type.String() {
					t.Errorf("%s: %s in dtypes.json, %v", x.Name, types[x.Name], x.Type)
				}
			}
		}
		if ck, err := gptoss.OpenCheckpoint(dir); err == nil {
			ck.Close()
			t.Errorf("%v: opens as a checkpoint", layout)
		}
	}
}

// A value that no MXFP4 block or no bfloat16 holds is named, and nothing is left.
func TestWhatCannotBeHeld(t *testing.T) {
	original := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 5)
	bf16 := map[gptoss.Dialect]string{}
	for _, layout := range layouts() {
		bf16[layout] = mustWrite(t, original, Options{Layout: layout, KeepBF16: true})
	}
	put := func(name string, at int, v float32) func(x checkpoint.Tensor) []checkpoint.Tensor {
		return func(x checkpoint.Tensor) []checkpoint.Tensor {
			if x.Name == name {
				x.Data = slices.Clone(x.Data)
				if x.Type == checkpoint.F32 {
					binary.LittleEndian.PutUint32(x.Data[4*at:], math.Float32bits(v))
				} else {
					float.EncodeBF16(x.Data[2*at:], []float32{v})
				}
			}
			return []checkpoint.Tensor{x}
		}
	}
	wide := func(edit func(x checkpoint.Tensor) []checkpoint.Tensor) func(x checkpoint.Tensor) []checkpoint.Tensor {
		return func(x checkpoint.Tensor) []checkpoint.Tensor { return edit(widened(x)) }
	}
	scale := func(v byte) func(x checkpoint.Tensor) []checkpoint.Tensor {
		return func(x checkpoint.Tensor) []checkpoint.Tensor {
			if x.Name == "block.1.mlp.mlp2_weight.scales" {
				x.Data = slices.Clone(x.Data)
				x.Data[77] = v
			}
			if x.Name == "block.1.mlp.mlp2_weight.blocks" && v != 255 {
				x.Data = slices.Clone(x.Data)
				x.Data[77*16] = 0x70
			}
			return []checkpoint.Tensor{x}
		}
	}
	for _, tt := range []struct {
		name string
		from string
		edit func(x checkpoint.Tensor) []checkpoint.Tensor
		opt  Options
		want string
	}{
		{"a third", bf16[gptoss.Original], put("block.2.mlp.mlp1_weight", (3*128+7)*64+40, 1./3), Options{},
			"convert: block.2.mlp.mlp1_weight: row [3 7], columns 32 to 63 is no MXFP4 block: element "},
		{"NaN", bf16[gptoss.Original], put("block.2.mlp.mlp2_weight", 64*64*7+64*63+63, float32(math.NaN())), Options{},
			"convert: block.2.mlp.mlp2_weight: row [7 63], columns 32 to 63 is no MXFP4 block: element 31 of it is NaN"},
		{"a third of transformers", bf16[gptoss.HuggingFace], put("model.layers.2.mlp.experts.gate_up_proj", (3*64+40)*128+7, 1./3), Options{},
			"convert: model.layers.2.mlp.experts.gate_up_proj: row [3 7], columns 32 to 63 is no MXFP4 block: element "},
		{"float32 beyond bfloat16", bf16[gptoss.Original], wide(put("norm.scale", 9, 1.0001)), Options{}, "convert: norm.scale: element 9 is 1.0001, want a value that bfloat16 holds"},
		{"float32 beyond bfloat16, turned", bf16[gptoss.HuggingFace], wide(put("model.layers.0.mlp.experts.down_proj", 5000, 1.0001)), Options{},
			"convert: model.layers.0.mlp.experts.down_proj: element 5000 is 1.0001, want a value that bfloat16 holds"},
		{"scale NaN", original, scale(255), Options{}, "convert: block.1.mlp.mlp2_weight.scales: scale 255, which is NaN, at element 77"},
		{"scale NaN to bfloat16", original, scale(255), Options{KeepBF16: true}, "row [0 38], columns 32 to 63 has scale 255, at which element 0 of it is NaN"},
		{"scale beyond bfloat16", original, scale(254), Options{KeepBF16: true}, "row [0 38], columns 32 to 63 has scale 254, at which element 1 of it is +Inf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opt.panelMost = 3000
			wantError(t, rewritten(t, tt.from, tt.edit, nil), tt.opt, tt.want)
		})
	}
}

// wantError converts, wants an error and nothing left.
func wantError(t testing.TB, src string, opt Options, want string) {
	t.Helper()
	parent := t.TempDir()
	_, err := Run(t.Context(), src, filepath.Join(parent, "a", "b"), opt)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if list, err := os.ReadDir(parent); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// Slices are those of gpt_oss.torch: the digests are of the parameters that its
// own code has on each rank (tools/containers/slices.py).
func TestSlices(t *testing.T) {
	golden, err := os.ReadFile("testdata/slices.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := modeltest.Tiny(t)
	original := modeltest.Write(t, c, gptoss.Original, 1)
	for _, src := range []string{original, modeltest.Write(t, c, gptoss.HuggingFace, 1), mustWrite(t, original, Options{Layout: gptoss.HuggingFace, KeepBF16: true})} {
		lines := 0
		for line := range strings.Lines(string(golden)) {
			var ranks, rank, n int
			var want string
			if _, err := fmt.Sscan(line, &ranks, &rank, &n, &want); err != nil {
				t.Fatal(err)
			}
			if lines++; src != original && ranks != 4 {
				continue
			}
			f, err := checkpoint.Open(mustWrite(t, src, Options{Rank: rank, Ranks: ranks}))
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			for _, x := range f.Tensors() {
				fmt.Fprintf(h, "%s [%s]\n", x.Name, strings.Trim(strings.ReplaceAll(fmt.Sprint(x.Shape), " ", ", "), "[]"))
				h.Write(x.Data)
			}
			if got := fmt.Sprintf("%x", h.Sum(nil)); got != want || len(f.Tensors()) != n {
				t.Errorf("rank %d of %d: digest %s of %d tensors, want %s of %d", rank, ranks, got, len(f.Tensors()), want, n)
			}
			f.Close()
		}
		if lines != 1+2+4+8 {
			t.Errorf("%d ranks in the golden", lines)
		}
	}
	for _, tt := range []struct {
		opt  Options
		want string
	}{
		{Options{Rank: 0, Ranks: 3}, "3 ranks, want a number that divides intermediate_size, 64"},
		{Options{Rank: 0, Ranks: -1}, "-1 ranks, want a number"},
		{Options{Rank: 2, Ranks: 2}, "rank 2, want 0 to 1"},
		{Options{Rank: -1, Ranks: 2}, "rank -1, want 0 to 1"},
		{Options{Rank: 1, Ranks: 2, Layout: gptoss.HuggingFace}, "want the original"},
	} {
		wantError(t, original, tt.opt, tt.want)
	}
}

// Ranks put together are the whole again.
func TestSlicesJoin(t *testing.T) {
	c := modeltest.Tiny(t)
	c.Inner = 96
	src := modeltest.Write(t, c, gptoss.Original, 3)
	whole, err := checkpoint.Open(mustWrite(t, src, Options{KeepBF16: true}))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	for _, ranks := range []int{1, 3, 6} {
		n := c.Inner / ranks
		for rank := range ranks {
			f, err := checkpoint.Open(mustWrite(t, src, Options{Rank: rank, Ranks: ranks}))
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range f.Tensors() {
				y, ok := whole.Tensor(x.Name)
				if !ok {
					t.Fatalf("%s: not in the whole", x.Name)
				}
				// All as [groups, per, columns]; the slice lies at lo and left.
				groups, per, cols, lo, left := 1, 1, len(y.Data)/2, 0, 0
				switch {
				case strings.HasSuffix(x.Name, "mlp1_weight"):
					groups, per, cols, lo = y.Shape[0], y.Shape[1], y.Shape[2], 2*n*rank
				case strings.HasSuffix(x.Name, "mlp1_bias"):
					groups, cols, left = y.Shape[0], y.Shape[1], 2*n*rank
				case strings.HasSuffix(x.Name, "mlp2_weight"):
					groups, cols, left = y.Shape[0]*y.Shape[1], y.Shape[2], n*rank
				}
				h := per
				if per > 1 {
					h = 2 * n
				}
				w := len(x.Data) / 2 / groups / h
				for g := range groups {
					for i := range h {
						at := 2 * ((g*per+lo+i)*cols + left)
						if !bytes.Equal(x.Data[2*(g*h+i)*w:2*(g*h+i+1)*w], y.Data[at:at+2*w]) {
							t.Fatalf("rank %d of %d: %s: row %d of group %d differs", rank, ranks, x.Name, i, g)
						}
					}
				}
			}
			f.Close()
		}
	}
}

// A folder that does not hold the model that config.json describes is refused
// with every mistake.
func TestWhatIsWrong(t *testing.T) {
	original := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 5)
	hf := mustWrite(t, original, Options{Layout: gptoss.HuggingFace, KeepBF16: true})
	without := func(name string) func(x checkpoint.Tensor) []checkpoint.Tensor {
		return func(x checkpoint.Tensor) []checkpoint.Tensor {
			if x.Name == name {
				return nil
			}
			return []checkpoint.Tensor{x}
		}
	}
	with := func(more ...checkpoint.Tensor) func(x checkpoint.Tensor) []checkpoint.Tensor {
		return func(x checkpoint.Tensor) []checkpoint.Tensor {
			if x.Name == "norm.scale" {
				return append([]checkpoint.Tensor{x}, more...)
			}
			return []checkpoint.Tensor{x}
		}
	}
	shaped := func(name string, shape ...int) func(x checkpoint.Tensor) []checkpoint.Tensor {
		return func(x checkpoint.Tensor) []checkpoint.Tensor {
			if x.Name == name {
				x.Shape = shape
			}
			return []checkpoint.Tensor{x}
		}
	}
	for _, tt := range []struct {
		name, src string
		want      string
	}{
		{"no blocks", rewritten(t, original, without("block.1.mlp.mlp1_weight.blocks"), nil), "convert: block.1.mlp.mlp1_weight.blocks: missing, want U8 [8, 128, 2, 16]; or block.1.mlp.mlp1_weight, BF16 [8, 128, 64]"},
		{"no scales", rewritten(t, original, without("block.1.mlp.mlp1_weight.scales"), nil), "convert: block.1.mlp.mlp1_weight.scales: missing, want U8 [8, 128, 2]"},
		{"no bias", rewritten(t, original, without("block.0.mlp.mlp1_bias"), nil), "convert: block.0.mlp.mlp1_bias: missing, want BF16 [8, 128]"},
		{"a stranger", rewritten(t, original, with(checkpoint.Tensor{Name: "x", Type: checkpoint.U8, Shape: []int{1}, Data: []byte{1}}), nil), "x: not part of the model"},
		{"both forms of experts", rewritten(t, original, with(checkpoint.Tensor{Name: "block.1.mlp.mlp1_weight", Type: checkpoint.BF16, Shape: []int{1}, Data: []byte{1, 1}}), nil), "block.1.mlp.mlp1_weight: not part of the model"},
		{"other shape", rewritten(t, original, shaped("embedding.weight", 64, 512), nil), "convert: embedding.weight: BF16 [64, 512], want BF16 [512, 64]"},
		{"experts not turned", rewritten(t, hf, shaped("model.layers.1.mlp.experts.gate_up_proj", 8, 128, 64), nil), "convert: model.layers.1.mlp.experts.gate_up_proj: BF16 [8, 128, 64], want BF16 [8, 64, 128]"},
		{"other config", rewritten(t, original, with(), func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"num_hidden_layers": 4`), []byte(`"num_hidden_layers": 3`), 1)
		}), "block.3.attn.norm.scale: not part of the model"},
		{"nothing", t.TempDir(), "no *.safetensors, no *.msgpack, and no _METADATA"},
		{"not there", filepath.Join(t.TempDir(), "x"), "no such file"},
		{"a file", filepath.Join(original, "model.safetensors"), "a file, want a folder, or a file of Flax"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.src, Options{}, tt.want) })
	}
}

// A folder with a checkpoint stays as it is, the source's own too.
func TestRefusesACheckpoint(t *testing.T) {
	src := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 5)
	before := contents(t, src)
	if _, err := Run(t.Context(), src, src, Options{}); err == nil || !strings.Contains(err.Error(), "want a folder without a checkpoint") {
		t.Errorf("got %v", err)
	}
	for name, data := range contents(t, src) {
		if !bytes.Equal(before[name], data) {
			t.Errorf("%s changed", name)
		}
	}
}

// endsAt converts and ends when so many bytes are written.
func endsAt(t *testing.T, src, dir string, opt Options, at int64) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("enough")
	opt.Progress = func(done, total int64) {
		if done >= at {
			cancel(why)
		}
	}
	if _, err := Run(ctx, src, dir, opt); !errors.Is(err, why) {
		t.Fatalf("ended at %d bytes: %v", at, err)
	}
	for name := range contents(t, dir) {
		if !strings.HasPrefix(name, ".") {
			t.Errorf("ended at %d bytes: %s is there", at, name)
		}
	}
}

// A conversion that is ended goes on after the last tensor that was complete; what
// comes out is the same.
func TestGoesOn(t *testing.T) {
	src, _ := unpack(t, "ocdbt")
	for _, layout := range layouts() {
		opt := Options{Layout: layout}
		want := mustWrite(t, src, opt)
		dir := filepath.Join(t.TempDir(), "out")
		kept := 0
		for _, at := range []int64{1, 3_000, 25_000, 30_000, 48_000} {
			endsAt(t, src, dir, opt, at)
		}
		r, err := Run(t.Context(), src, dir, opt)
		if err != nil {
			t.Fatal(err)
		}
		if kept = r.Kept; kept < r.Tensors/2 || kept == r.Tensors {
			t.Errorf("%v: %d of %d tensors kept", layout, kept, r.Tensors)
		}
		compareFolders(t, dir, want)
	}
}

// What an earlier run left is kept only if it is of the same conversion, and whole.
func TestGoesOnWithTheSame(t *testing.T) {
	src, _ := unpack(t, "msgpack-chunks")
	want := mustWrite(t, src, Options{})
	part := func(dir string) string { return filepath.Join(dir, ".model.safetensors.ossify-part") }
	edit := func(t *testing.T, path string, f func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, f(b), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, dir string)
		kept func(kept, all int) bool
	}{
		{"as it was left", func(t *testing.T, dir string) {}, func(kept, all int) bool { return kept > all/2 }},
		{"a byte changed", func(t *testing.T, dir string) {
			edit(t, part(dir), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, func(kept, all int) bool { return kept > 0 }},
		{"the head changed", func(t *testing.T, dir string) {
			edit(t, part(dir), func(b []byte) []byte { b[20] ^= 1; return b })
		}, func(kept, all int) bool { return kept > all/2 }},
		{"cut", func(t *testing.T, dir string) { edit(t, part(dir), func(b []byte) []byte { return b[:len(b)/3] }) }, func(kept, all int) bool { return kept > 0 }},
		{"longer", func(t *testing.T, dir string) {
			edit(t, part(dir), func(b []byte) []byte { return append(b, make([]byte, 1<<17)...) })
		}, func(kept, all int) bool { return kept > all/2 }},
		{"gone", func(t *testing.T, dir string) {
			if err := os.Remove(part(dir)); err != nil {
				t.Fatal(err)
			}
		}, func(kept, all int) bool { return kept == 0 }},
		{"no journal", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, journalName)); err != nil {
				t.Fatal(err)
			}
		}, func(kept, all int) bool { return kept == 0 }},
		{"a journal of noise", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, journalName), func(b []byte) []byte { return []byte("\x00\xff{") })
		}, func(kept, all int) bool { return kept == 0 }},
		{"a journal cut", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, journalName), func(b []byte) []byte { return b[:len(b)-5] })
		}, func(kept, all int) bool { return kept > 0 }},
		{"another conversion", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, journalName), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"conversion":"`), []byte(`"conversion":"0`), 1)
			})
			if err := os.Rename(part(dir), part(dir)+"x"); err != nil {
				t.Fatal(err)
			}
		}, func(kept, all int) bool { return kept == 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			endsAt(t, src, dir, Options{}, 47_000)
			tt.do(t, dir)
			r, err := Run(t.Context(), src, dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			os.Remove(part(dir) + "x")
			if !tt.kept(r.Kept, r.Tensors) {
				t.Errorf("%d of %d tensors kept", r.Kept, r.Tensors)
			}
			compareFolders(t, dir, want)
		})
	}
	t.Run("another layout", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out")
		endsAt(t, src, dir, Options{}, 30_000)
		if r, err := Run(t.Context(), src, dir, Options{Layout: gptoss.HuggingFace}); err != nil || r.Kept != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		compareFolders(t, dir, mustWrite(t, src, Options{Layout: gptoss.HuggingFace}))
	})
	t.Run("a source that fails", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out")
		endsAt(t, src, dir, Options{}, 10_000)
		path := filepath.Join(src, "model.msgpack")
		edit(t, path, func(b []byte) []byte { return b[:len(b)-1] })
		if _, err := Run(t.Context(), src, dir, Options{}); err == nil {
			t.Error("converted")
		}
	})
}

// Progress ends at its total, which is what the tensors have.
func TestProgress(t *testing.T) {
	for _, kind := range []string{"plain", "msgpack-chunks"} {
		src, _ := unpack(t, kind)
		for _, opt := range []Options{{}, {Layout: gptoss.HuggingFace}, {KeepBF16: true}, {Layout: gptoss.HuggingFace, KeepBF16: true}, {Rank: 1, Ranks: 2}} {
			var last, total int64
			opt.Progress = func(done, all int64) {
				if done < last {
					t.Errorf("%d bytes after %d", done, last)
				}
				last, total = done, all
			}
			r, err := Run(t.Context(), src, filepath.Join(t.TempDir(), "x"), opt)
			if err != nil {
				t.Fatal(err)
			}
			if last != total || total != r.Bytes || r.Tensors == 0 {
				t.Errorf("%v: %d of %d bytes, want %d", opt.Layout, last, total, r.Bytes)
			}
		}
	}
}

// Every parameter of the model has a leaf in the tree, and no two the same.
func TestLeaves(t *testing.T) {
	seen := map[string]bool{}
	g := modeltest.Graph(t)
	for _, p := range g.Params {
		path, swapped := leaf(p.Name)
		if seen[path] || strings.HasSuffix(path, "/") || path == "" {
			t.Errorf("%s: leaf %q", p.Name, path)
		}
		seen[path] = true
		if swapped && (len(p.Shape) != 2 || p.Storage != graph.BF16) {
			t.Errorf("%s: a kernel of %v", p.Name, p.Shape)
		}
	}
	for name, want := range map[string]string{
		"params/block_3/attn/sinks": "block_3/attn/sinks", "layers/3/attn/sinks": "block_3/attn/sinks", "embed_tokens/embedding": "embedding/embedding",
		"params/lm_head/kernel": "unembedding/kernel", "norm/scale": "norm/scale", "layers": "layers",
	} {
		if got := treePath(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
