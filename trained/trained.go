// Package trained holds the small gpt-oss model that comes with ossify, and
// writes it as a checkpoint in the official form.
//
// The model was trained by tools/train on conversations about ossify, on sums
// and on calls of tools (docs/trained.md). Its file is safetensors with the
// official tensors, but for embedding and unembedding: those have a row for each
// of the ids that occur in the training, which the tensor ids lists, rising, and
// one more, the last, which stands for every other id. [Write] puts the rows
// where they belong, so that the checkpoint has the whole vocabulary.
package trained

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"slices"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/synth"
	"ossify/weight"
)

//go:embed model.safetensors
var embedded []byte

// A Model is a file as it is embedded.
type Model struct {
	Config *gptoss.Config
	Recipe map[string]string // how it was trained
	IDs    []uint32          // that have a row of their own, rising

	file *checkpoint.File
	rows []int // of the tables, by id
}

// The key of the metadata that holds the config.json, and the tensor of ids.
const (
	configKey = "config"
	idsName   = "ids"
)

// Open returns the embedded model.
func Open() (*Model, error) { return Parse("trained/model.safetensors", embedded) }

// Parse proves that data is a file as tools/train writes it. Messages call it
// name.
func Parse(name string, data []byte) (*Model, error) {
	f, err := checkpoint.ParseFile(name, data)
	if err != nil {
		return nil, err
	}
	m := &Model{Recipe: maps.Clone(f.Metadata()), file: f}
	wrong := func(format string, args ...any) (*Model, error) {
		return nil, fmt.Errorf("trained: %s: %s", name, fmt.Sprintf(format, args...))
	}
	config, ok := m.Recipe[configKey]
	if !ok {
		return wrong("no %s in its metadata, want a config.json", configKey)
	}
	delete(m.Recipe, configKey)
	var d gptoss.Dialect
	if m.Config, d, err = gptoss.ParseConfig([]byte(config)); err != nil {
		return wrong("%v", err)
	}
	if d != gptoss.Original {
		return wrong("config of the layout %v, want %v", d, gptoss.Original)
	}
	ids, ok := f.Tensor(idsName)
	if !ok || ids.Type != checkpoint.I32 || len(ids.Shape) != 1 {
		return wrong("want a tensor %s, I32 of one dimension", idsName)
	}
	list, err := ids.Ints()
	if err != nil {
		return nil, err
	}
	m.rows = make([]int, m.Config.Vocab)
	for i := range m.rows {
		m.rows[i] = len(list)
	}
	last := -1
	for i, id := range list {
		if id <= last || id >= m.Config.Vocab {
			return wrong("%s: %d after %d, want rising ids below %d", idsName, id, last, m.Config.Vocab)
		}
		m.IDs, m.rows[id], last = append(m.IDs, uint32(id)), i, id
	}
	return m, m.check(name)
}

// check proves that every tensor of the model is there, in its size.
func (m *Model) check(name string) error {
	parts, err := m.parts(gptoss.Original)
	if err != nil {
		return err
	}
	known := map[string]bool{idsName: true}
	for _, p := range parts {
		want := p.Entry
		if table(p.Param) {
			want.Shape = slices.Clone(want.Shape)
			want.Shape[0] = len(m.IDs) + 1
		}
		t, ok := m.file.Tensor(p.Name)
		if !ok {
			return fmt.Errorf("trained: %s: no %s, want %v", name, p.Name, want)
		}
		if t.Type != want.Type || !slices.Equal(t.Shape, want.Shape) {
			return fmt.Errorf("trained: %s: %s: %v, want %v", name, p.Name, t.Entry(), want)
		}
		known[p.Name] = true
	}
	for _, t := range m.file.Tensors() {
		if !known[t.Name] {
			return fmt.Errorf("trained: %s: %s is no tensor of the model", name, t.Name)
		}
	}
	return nil
}

func (m *Model) parts(d gptoss.Dialect) ([]gptoss.Part, error) {
	g, err := gptoss.Build(m.Config)
	if err != nil {
		return nil, err
	}
	return gptoss.Parts(g, m.Config, d)
}

// table reports whether a parameter has a row for each id.
func table(p graph.Param) bool {
	return p.Name == "embedding.weight" || p.Name == "unembedding.weight"
}

// Write writes the model into dir as a checkpoint with the whole vocabulary,
// under the conditions of [synth.Write].
func (m *Model) Write(ctx context.Context, dir string, d gptoss.Dialect, progress func(done, total int64)) error {
	done := int64(0)
	return synth.Fill(ctx, dir, m.Config, d, func(w io.Writer, p gptoss.Part, total int64) error {
		return m.fill(p, func(b []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := w.Write(b)
			if done += int64(n); err == nil && progress != nil {
				progress(done, total)
			}
			return err
		})
	})
}

// fill hands the bytes of a part of a checkpoint to write, in pieces.
func (m *Model) fill(p gptoss.Part, write func(b []byte) error) error {
	name := p.Param.Name
	switch {
	case p.Scales:
		name += ".scales"
	case p.Param.Storage == graph.MXFP4:
		name += ".blocks"
	}
	t, _ := m.file.Tensor(name) // check saw it
	if !table(p.Param) {
		size := len(t.Data) / weight.Rows(p.Param)
		return write(t.Data[p.First*size:][:p.Rows*size])
	}
	const many = 4096 // rows of a piece
	size := len(t.Data) / (len(m.IDs) + 1)
	piece := make([]byte, 0, many*size)
	for rows := range slices.Chunk(m.rows[p.First:][:p.Rows], many) {
		piece = piece[:0]
		for _, row := range rows {
			piece = append(piece, t.Data[row*size:][:size]...)
		}
		if err := write(piece); err != nil {
			return err
		}
	}
	return nil
}
