package gptoss

import (
	"fmt"
	"slices"
	"testing"

	"ossify/checkpoint"
	"ossify/graph"
	"ossify/internal/fileset"
)

// planned returns the tensors' files of a checkpoint, and their tensors' bytes.
func planned(t *testing.T, g *graph.Graph, c *Config, d Dialect) (files []checkpoint.FileInfo, total int64) {
	t.Helper()
	parts, err := Parts(g, c, d)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		n, _ := p.Bytes()
		total += n
	}
	shards, err := CreateShards(fileset.New(t.Context(), fileset.Options{}), "", d, parts)
	if err != nil {
		t.Fatal(err)
	}
	if files, err = shards.Files(); err != nil {
		t.Fatal(err)
	}
	return files, total
}

// The files of the published repositories, to the byte:
// huggingface.co/openai/gpt-oss-20b and its original/ (August 2025).
func TestPublishedFiles(t *testing.T) {
	for _, tt := range []struct {
		preset  string
		dialect Dialect
		want    []string
	}{
		{"20b", Original, []string{"model.safetensors 13761300984"}},
		{"20b", HuggingFace, []string{
			"model-00000-of-00002.safetensors 4792272488",
			"model-00001-of-00002.safetensors 4798702184",
			"model-00002-of-00002.safetensors 4170342232",
		}},
	} {
		c, err := Preset(tt.preset)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Build(c)
		if err != nil {
			t.Fatal(err)
		}
		files, total := planned(t, g, c, tt.dialect)
		var got []string
		for _, f := range files {
			got = append(got, fmt.Sprint(f.Name, " ", f.Size))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %v: %v, want %v", tt.preset, tt.dialect, got, tt.want)
		}
		if total != 13761264768 { // total_size of the published index
			t.Errorf("%s %v: %d bytes of tensors, want 13761264768", tt.preset, tt.dialect, total)
		}
		if tt.dialect == Original {
			if n := len(originalTypes(g)); n != 13082 {
				t.Errorf("dtypes.json has %d bytes, want 13082", n)
			}
		}
	}
	// 120b: the number of files is known, and their names.
	c, err := Preset("120b")
	if err != nil {
		t.Fatal(err)
	}
	g, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	for d, want := range map[Dialect][2]string{
		Original:    {"model--00001-of-00007.safetensors", "model--00007-of-00007.safetensors"},
		HuggingFace: {"model-00000-of-00014.safetensors", "model-00014-of-00014.safetensors"},
	} {
		files, _ := planned(t, g, c, d)
		if got := [2]string{files[0].Name, files[len(files)-1].Name}; got != want {
			t.Errorf("120b %v: %v, want %v", d, got, want)
		}
	}
}
