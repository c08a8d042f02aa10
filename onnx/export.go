package onnx

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"ossify/checkpoint"
	"ossify/graph"
	"ossify/weight"
)

// Names of the files that [Export] writes. With a shard size, the data files
// are named as transformers.js looks for them: model.onnx_data,
// model.onnx_data_1 and so on.
const (
	ModelFile = "model.onnx"
	DataFile  = "model.onnx.data"
	shardFile = "model.onnx_data"
)

// DefaultPositions is how many positions the rotary embedding's tables cover.
const DefaultPositions = 131072

// DefaultStrip is how many values of an expert's matrix are decoded at a time, at
// most: 2 MiB of float32, near the caches of today's processors.
const DefaultStrip = 1 << 19

// DefaultAlign is where tensors start in a data file, bytes: a page. Windows
// maps files at multiples of 65536.
const DefaultAlign = 4096

// Options says what is exported. The zero Options is the default: functions,
// logits of every position, symbolic sizes, one data file.
type Options struct {
	Target   Target
	Inline   bool              // no functions: one flat graph
	Trace    bool              // every stage is an output too
	LastOnly bool              // logits of the last position only
	Titles   map[string]string // names of functions, by the last word of a module's path; default that word

	// Fixed sizes of the inputs; 0 leaves one symbolic. Total is past + seq.
	Batch, Seq, Total int

	Positions int // that the model can tell apart, default DefaultPositions

	// Strip is how many values of an expert's matrix are decoded at a time, at
	// most; default DefaultStrip.
	Strip int

	// PlainLookup decodes experts with Gather, which in ONNX Runtime takes five
	// times as long, for runtimes whose GatherElements takes small tables only:
	// onnx.reference.
	PlainLookup bool

	// InPlace writes no data: the model refers to the sources' own files, and
	// is written beside them.
	InPlace   bool
	Align     int64 // of tensors in data files, default DefaultAlign
	ShardSize int64 // of a data file at most, in bytes; 0 is no limit

	Version  string            // of the program, as producer_version
	Metadata map[string]string // metadata_props, besides those of Export

	Progress func(done, total int64) // bytes of data written; may be nil
}

// Result says what an export wrote.
type Result struct {
	Files []string // in dir; the model first
	Bytes int64    // of data files
	Copy  string   // how data was written: "", "reflink", "direct" or "buffered"
}

// Metadata keys that Export adds.
const (
	keyTarget  = "ossify.target"
	keySource  = "ossify.source.files"          // names and sizes
	keyHeaders = "ossify.source.headers.sha256" // see headerDigest
)

// Export writes g as ONNX into dir, as model.onnx and its data. Files appear
// under their names when they are complete; if Export fails or ctx ends, dir is
// as before.
func Export(ctx context.Context, g *graph.Graph, w *weight.Set, opt Options, dir string) (*Result, error) {
	l, err := lower(g, w, &opt)
	if err != nil {
		return nil, err
	}
	metadata := maps.Clone(opt.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata[keyTarget] = opt.Target.String()
	if err := describe(w.Files(), metadata); err != nil {
		return nil, err
	}

	result := &Result{Files: []string{ModelFile}}
	var data *dataFiles
	var places []place
	if opt.InPlace {
		places, err = l.inPlace(dir)
	} else {
		data, places, err = l.writeData(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	if data != nil {
		defer data.abort()
	}
	m := l.model(places, metadata)
	if data != nil {
		result.Bytes, result.Copy = data.bytes, data.method
		names, err := data.commit()
		if err != nil {
			return nil, err
		}
		result.Files = append(result.Files, names...)
	}
	return result, checkpoint.WriteFile(filepath.Join(dir, ModelFile), encode(m))
}

// model joins everything but the data.
func (l *lowering) model(places []place, metadata map[string]string) *model {
	nodes, functions := l.nodes, []*function(nil)
	if !l.opt.Inline {
		nodes, functions = l.outline()
	}
	m := &model{
		ir:              irVersion,
		producer:        "ossify",
		producerVersion: l.opt.Version,
		opsets:          []*opset{{version: opsetVersion}},
		functions:       functions,
		graph: &subgraph{
			name:    "model",
			nodes:   nodes,
			inputs:  l.inputs,
			outputs: l.outputs,
		},
	}
	if len(functions) > 0 {
		m.opsets = append(m.opsets, &opset{domain, 1})
	}
	for i := range l.inits {
		in := &l.inits[i]
		t := &tensor{name: in.name, elem: in.elem, raw: in.raw}
		for _, d := range in.shape {
			t.dims = append(t.dims, int64(d))
		}
		if in.from != nil {
			t.location = external
			t.external = places[i].entries()
		}
		m.graph.initializers = append(m.graph.initializers, t)
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		m.metadata = append(m.metadata, &entry{key, metadata[key]})
	}
	return m
}

// describe adds what the sources are.
func describe(list []checkpoint.FileInfo, metadata map[string]string) error {
	files := ""
	for _, f := range list {
		files += fmt.Sprintf("%s %d\n", f.Name, f.Size)
	}
	digest, err := headerDigest(list)
	if err != nil {
		return err
	}
	metadata[keySource], metadata[keyHeaders] = files, digest
	return nil
}

// headerDigest is SHA-256 over, for each file in order: its name, a zero byte,
// its size (8 bytes, little-endian), and its safetensors header with the 8
// bytes before it. It fixes names, types, shapes and places of all tensors, not
// their bytes: those would take as long to read as to copy.
func headerDigest(files []checkpoint.FileInfo) (string, error) {
	sum := sha256.New()
	for _, f := range files {
		in, err := os.Open(f.Path)
		if err != nil {
			return "", fmt.Errorf("onnx: %w", err)
		}
		defer in.Close()
		prefix := make([]byte, 8)
		if _, err := io.ReadFull(in, prefix); err != nil {
			return "", fmt.Errorf("onnx: %s: header: %w", f.Name, err)
		}
		n := binary.LittleEndian.Uint64(prefix)
		if n > checkpoint.MaxHeader {
			return "", fmt.Errorf("onnx: %s: header of %d bytes, want at most %d", f.Name, n, checkpoint.MaxHeader)
		}
		io.WriteString(sum, f.Name+"\x00")
		sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(f.Size)))
		sum.Write(prefix)
		if _, err := io.CopyN(sum, in, int64(n)); err != nil {
			return "", fmt.Errorf("onnx: %s: header: %w", f.Name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// A place is where an initializer's bytes are.
type place struct {
	file   string
	offset int64
	length int64
}

func (p place) entries() []*entry {
	return []*entry{{"location", p.file}, {"offset", fmt.Sprint(p.offset)}, {"length", fmt.Sprint(p.length)}}
}

// tensorBytes is the size of a tensor of a checkpoint.
func tensorBytes(t *checkpoint.Tensor) int64 {
	n, _ := checkpoint.Entry{Name: t.Name, Type: t.Type, Shape: t.Shape}.Bytes()
	return n
}

// inPlace returns the places of all initializers in the sources' files, which
// must lie in dir.
func (l *lowering) inPlace(dir string) ([]place, error) {
	for _, f := range l.w.Files() {
		info, err := os.Lstat(filepath.Join(dir, f.Name))
		if err != nil {
			return nil, fmt.Errorf("onnx: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("onnx: %s: a link, which runtimes refuse in place, want a file of the folder: export to a folder of its own instead", f.Name)
		}
		if real, err := os.Stat(f.Path); err != nil || !os.SameFile(info, real) {
			return nil, fmt.Errorf("onnx: %s: not the file of that name in %s", f.Name, dir)
		}
	}
	places := make([]place, len(l.inits))
	for i, in := range l.inits {
		if t := in.from; t != nil {
			if t.File == "" {
				return nil, fmt.Errorf("onnx: %s: changed in memory, and in place means in its file", in.name)
			}
			places[i] = place{t.File, t.Offset, tensorBytes(t)}
		}
	}
	return places, nil
}

// writeData writes the bytes of all initializers that are tensors of the
// checkpoint.
func (l *lowering) writeData(ctx context.Context, dir string) (*dataFiles, []place, error) {
	d := &dataFiles{dir: dir, align: cmp.Or(l.opt.Align, DefaultAlign), most: l.opt.ShardSize, files: l.w.Files(), progress: l.opt.Progress}
	if d.align < 1 || d.align&(d.align-1) != 0 {
		return nil, nil, fmt.Errorf("onnx: alignment %d, want a power of two", d.align)
	}
	if d.most < 0 {
		return nil, nil, fmt.Errorf("onnx: shard size %d", d.most)
	}
	places, err := d.write(ctx, l.inits)
	if err != nil {
		d.abort()
		return nil, nil, err
	}
	return d, places, nil
}
