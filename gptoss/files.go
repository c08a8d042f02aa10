package gptoss

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/graph"
	"ossify/internal/fileset"
	"ossify/tokenizer"
)

// A Part is a tensor of a checkpoint: rows of a parameter, or the scales of
// them.
type Part struct {
	checkpoint.Entry
	Param       graph.Param
	First, Rows int  // of the parameter
	Scales      bool // of MXFP4, else values or blocks
}

// Parts returns the tensors of a checkpoint of g in a dialect, in the order in
// which the published files are split.
func Parts(g *graph.Graph, c *Config, d Dialect) ([]Part, error) {
	var parts []Part
	params := slices.SortedFunc(slices.Values(g.Params), func(a, b graph.Param) int { return strings.Compare(a.Name, b.Name) })
	names := d.Names()
	for _, p := range params {
		pieces, err := piecesOf(p, c, names)
		if err != nil {
			return nil, err
		}
		for _, e := range pieces {
			parts = append(parts, Part{e.data, p, e.first, e.rows, false})
			if p.Storage == graph.MXFP4 {
				parts = append(parts, Part{e.scales, p, e.first, e.rows, true})
			}
		}
	}
	return parts, nil
}

// CreateShards starts the tensors' files, divided as they were published:
// original/ of 20b is one file of 13.8 GB, that of 120b seven of at most 10;
// the Hugging Face shards of both stay below 4.8, and count from 00000 to their
// own last number. A small model has Hugging Face shards too, three of them.
func CreateShards(set *fileset.Set, dir string, d Dialect, parts []Part) (*checkpoint.ShardWriter, error) {
	entries, total := make([]checkpoint.Entry, len(parts)), int64(0)
	for i, p := range parts {
		n, _ := p.Bytes()
		entries[i], total = p.Entry, total+n
	}
	const GB = 1_000_000_000
	if d == HuggingFace {
		name := func(i, n int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i, n-1) }
		return checkpoint.CreateShards(set, dir, name, entries, min(48*GB/10, total*2/5), nil, true)
	}
	most := int64(math.MaxInt64)
	if total > 16*GB {
		most = 10 * GB
	}
	name := func(i, n int) string { return fmt.Sprintf("model--%05d-of-%05d.safetensors", i+1, n) }
	return checkpoint.CreateShards(set, dir, name, entries, most, nil, false)
}

// SmallFiles returns what stands beside the tensors, by name: config.json, and
// dtypes.json of the original form, generation_config.json of Hugging Face's.
func SmallFiles(g *graph.Graph, c *Config, d Dialect) (map[string][]byte, error) {
	config, err := c.Marshal(d)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"config.json": config}
	if d == Original {
		files["dtypes.json"] = originalTypes(g)
		return files, nil
	}
	if files["generation_config.json"], err = indented(c.generationForm()); err != nil {
		return nil, fmt.Errorf("gptoss: generation_config.json: %w", err)
	}
	return files, nil
}

// originalTypes is the dtypes.json of the original form, on one line as
// published.
func originalTypes(g *graph.Graph) []byte {
	var b bytes.Buffer
	line := func(name, kind string) {
		sep := ", "
		if b.Len() == 0 {
			sep = "{"
		}
		fmt.Fprintf(&b, "%s%q: %q", sep, name, kind)
	}
	for _, p := range g.Params { // in the order of the modules
		if p.Storage == graph.MXFP4 {
			line(p.Name+".blocks", "FP4")
			line(p.Name+".scales", "UE8")
		} else {
			line(p.Name, "BF16")
		}
	}
	b.WriteString("}")
	return b.Bytes()
}

func (c *Config) generationForm() any {
	var stops []uint32
	for _, id := range []uint32{tokenizer.Return, tokenizer.EndOfText, tokenizer.Call} {
		if c.special(id) != nil {
			stops = append(stops, id)
		}
	}
	return struct {
		BOS     *uint32  `json:"bos_token_id"`
		Sample  bool     `json:"do_sample"`
		EOS     []uint32 `json:"eos_token_id"`
		Pad     *uint32  `json:"pad_token_id"`
		Version string   `json:"transformers_version"`
	}{c.special(tokenizer.StartOfText), true, stops, c.special(tokenizer.EndOfText), "4.55.0.dev0"}
}
