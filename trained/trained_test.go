package trained

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/tokenizer"
	"ossify/weight"
)

// What Write writes is the embedded model, in both forms: every row of the
// tables where its id says, the last for all others, and all else to the byte.
func TestWrite(t *testing.T) {
	m, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.Vocab != tokenizer.VocabSize || len(m.Recipe) == 0 {
		t.Errorf("vocabulary of %d, recipe %v", m.Config.Vocab, m.Recipe)
	}
	var sets [2]*gptoss.Checkpoint
	for i, d := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
		dir := filepath.Join(t.TempDir(), "model")
		var done, total int64
		if err := m.Write(t.Context(), dir, d, func(d, n int64) { done, total = d, n }); err != nil {
			t.Fatal(err)
		}
		if done != total || done == 0 {
			t.Errorf("%v: progress ended at %d of %d", d, done, total)
		}
		sets[i] = modeltest.Open(t, dir)
	}
	for i, p := range sets[0].Graph.Params {
		a, b := sets[0].Weights.Sources(i), sets[1].Weights.Sources(i)
		x, y := joined(a), joined(b)
		if !bytes.Equal(x, y) {
			t.Errorf("%s: the two forms differ", p.Name)
		}
		if !table(p) {
			continue
		}
		own, _ := m.file.Tensor(p.Name)
		size := 2 * m.Config.Dim
		for id := range m.Config.Vocab {
			row := len(m.IDs)
			if at, ok := slices.BinarySearch(m.IDs, uint32(id)); ok {
				row = at
			}
			if !bytes.Equal(x[id*size:][:size], own.Data[row*size:][:size]) {
				t.Fatalf("%s: row %d is not row %d of the file", p.Name, id, row)
			}
		}
	}
}

// joined returns a parameter's values, or blocks and then scales.
func joined(sources []weight.Source) (all []byte) {
	for _, s := range sources {
		all = append(all, s.Data.Data...)
	}
	for _, s := range sources {
		all = append(all, s.Scales.Data...)
	}
	return all
}

func TestParseRefuses(t *testing.T) {
	whole, err := checkpoint.ParseFile("whole", embedded)
	if err != nil {
		t.Fatal(err)
	}
	ids := func(f func(ids []uint32)) func(map[string]checkpoint.Tensor, map[string]string) {
		return func(tensors map[string]checkpoint.Tensor, _ map[string]string) {
			x := tensors[idsName]
			var list []uint32
			for i := 0; i < len(x.Data); i += 4 {
				list = append(list, binary.LittleEndian.Uint32(x.Data[i:]))
			}
			f(list)
			x.Data = nil
			for _, id := range list {
				x.Data = binary.LittleEndian.AppendUint32(x.Data, id)
			}
			tensors[idsName] = x
		}
	}
	config := func(key string, value any) func(map[string]checkpoint.Tensor, map[string]string) {
		return func(_ map[string]checkpoint.Tensor, metadata map[string]string) {
			var c map[string]any
			if err := json.Unmarshal([]byte(metadata[configKey]), &c); err != nil {
				t.Fatal(err)
			}
			c[key] = value
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			metadata[configKey] = string(text)
		}
	}
	for _, tt := range []struct {
		name, want string
		edit       func(tensors map[string]checkpoint.Tensor, metadata map[string]string)
	}{
		{"no config", "no config in its metadata", func(_ map[string]checkpoint.Tensor, m map[string]string) { delete(m, configKey) }},
		{"bad config", "num_attention_heads", config("num_attention_heads", 7)},
		{"another width", "want", config("hidden_size", 224)},
		{"Hugging Face's config", "config.json", config("model_type", "gpt_oss")},
		{"no ids", "want a tensor ids", func(x map[string]checkpoint.Tensor, _ map[string]string) { delete(x, idsName) }},
		{"ids of another type", "want a tensor ids", func(x map[string]checkpoint.Tensor, _ map[string]string) { x[idsName] = x["norm.scale"] }},
		{"equal ids", "want rising ids", ids(func(ids []uint32) { ids[1] = ids[0] })},
		{"an id too large", "want rising ids below 201088", ids(func(ids []uint32) { ids[len(ids)-1] = 201088 })},
		{"a negative id", "want rising ids", ids(func(ids []uint32) { ids[0] = 1 << 31 })},
		{"no tensor", "no norm.scale", func(x map[string]checkpoint.Tensor, _ map[string]string) { delete(x, "norm.scale") }},
		{"one tensor more", "is no tensor of the model", func(x map[string]checkpoint.Tensor, _ map[string]string) { x["extra"] = x["norm.scale"] }},
		{"no row for others", "embedding.weight", func(x map[string]checkpoint.Tensor, _ map[string]string) {
			e := x["embedding.weight"]
			rows := e.Shape[0] - 1
			e.Data = e.Data[:len(e.Data)/e.Shape[0]*rows]
			e.Shape = []int{rows, e.Shape[1]}
			x["embedding.weight"] = e
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tensors, metadata := map[string]checkpoint.Tensor{}, maps.Clone(whole.Metadata())
			for _, x := range whole.Tensors() {
				tensors[x.Name] = x
			}
			tt.edit(tensors, metadata)
			var list []checkpoint.Tensor
			for _, name := range slices.Sorted(maps.Keys(tensors)) {
				x := tensors[name]
				x.Name = name
				list = append(list, x)
			}
			path := filepath.Join(t.TempDir(), "model.safetensors")
			if err := checkpoint.Save(path, list, metadata); err != nil {
				t.Fatal(err)
			}
			data, err := checkpoint.ReadFile(filepath.Dir(path), filepath.Base(path), 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Parse("bad", data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	for _, n := range []int{0, 7, 8, 1000, len(embedded) - 1} {
		if _, err := Parse("short", embedded[:n]); err == nil {
			t.Errorf("the first %d bytes are a model", n)
		}
	}
}
