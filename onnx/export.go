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
	"ossify/onnx/lower"
	"ossify/onnx/wire"
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

// DefaultAlign is where tensors start in a data file, bytes: a page. Windows
// maps files at multiples of 65536.
const DefaultAlign = 4096

// Options says what is exported. The zero Options is the default: functions,
// logits of every position, symbolic sizes, one data file.
type Options struct {
	Target   lower.Target      // operators to use, default Portable
	Inline   bool              // no functions: one flat graph
	Trace    bool              // every stage is an output too
	LastOnly bool              // logits of the last position only
	Titles   map[string]string // names of functions, by the last word of a module's path; default that word

	// Fixed sizes of the inputs; 0 leaves one symbolic. Total is past + seq.
	Batch, Seq, Total int

	Positions int // that the model can tell apart, default DefaultPositions

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

// Metadata keys of what Export adds.
const (
	KeyTarget = "ossify.target" // what ParseTarget reads

	keySource  = "ossify.source.files"          // names and sizes
	keyHeaders = "ossify.source.headers.sha256" // see headerDigest
)

// Export writes g as ONNX into dir, as model.onnx and its data. Files appear
// under their names when they are complete; if Export fails or ctx ends, dir is
// as before.
func Export(ctx context.Context, g *graph.Graph, w *weight.Set, opt Options, dir string) (*Result, error) {
	if opt.Target.Name == "" {
		opt.Target = lower.Portable()
	}
	low, err := lower.Graph(g, w, lower.Options{
		Target: opt.Target, Inline: opt.Inline, Trace: opt.Trace, LastOnly: opt.LastOnly, Titles: opt.Titles,
		Batch: opt.Batch, Seq: opt.Seq, Total: opt.Total, Positions: opt.Positions,
	})
	if err != nil {
		return nil, err
	}
	metadata := maps.Clone(opt.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata[KeyTarget] = opt.Target.String()
	if err := describe(w.Files(), metadata); err != nil {
		return nil, err
	}

	result := &Result{Files: []string{ModelFile}}
	var data *dataFiles
	var places []wire.Place
	if opt.InPlace {
		places, err = inPlace(low.Initializers, w.Files(), dir)
	} else {
		data, places, err = writeData(ctx, low.Initializers, w.Files(), opt, dir)
	}
	if err != nil {
		return nil, err
	}
	if data != nil {
		defer data.abort()
	}
	m := join(low, places, metadata, opt.Version)
	if data != nil {
		result.Bytes, result.Copy = data.bytes, data.method
		names, err := data.commit()
		if err != nil {
			return nil, err
		}
		result.Files = append(result.Files, names...)
	}
	return result, checkpoint.WriteFile(filepath.Join(dir, ModelFile), wire.Encode(m))
}

// join makes a lowered graph and the places of its weights a model.
func join(low *lower.Model, places []wire.Place, metadata map[string]string, version string) *wire.Model {
	m := &wire.Model{
		IR:              low.IR,
		Producer:        "ossify",
		ProducerVersion: version,
		Opsets:          low.Opsets,
		Functions:       low.Functions,
		Graph:           &wire.Graph{Name: "model", Nodes: low.Nodes, Inputs: low.Inputs, Outputs: low.Outputs},
	}
	for i := range low.Initializers {
		in := &low.Initializers[i]
		t := &wire.Tensor{Name: in.Name, Type: in.Type, Raw: in.Raw}
		for _, d := range in.Shape {
			t.Dims = append(t.Dims, int64(d))
		}
		if in.From != nil {
			t.Location = wire.External
			t.External = places[i].Entries()
		}
		m.Graph.Initializers = append(m.Graph.Initializers, t)
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		m.Metadata = append(m.Metadata, &wire.Entry{Key: key, Value: metadata[key]})
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

// tensorBytes is the size of a tensor of a checkpoint.
func tensorBytes(t *checkpoint.Tensor) int64 {
	n, _ := checkpoint.Entry{Name: t.Name, Type: t.Type, Shape: t.Shape}.Bytes()
	return n
}

// inPlace returns the places of all initializers in the sources' files, which
// must lie in dir.
func inPlace(inits []lower.Initializer, files []checkpoint.FileInfo, dir string) ([]wire.Place, error) {
	for _, f := range files {
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
	places := make([]wire.Place, len(inits))
	for i, in := range inits {
		if t := in.From; t != nil {
			if t.File == "" {
				return nil, fmt.Errorf("onnx: %s: changed in memory, and in place means in its file", in.Name)
			}
			places[i] = wire.Place{File: t.File, Offset: t.Offset, Length: tensorBytes(t)}
		}
	}
	return places, nil
}

// writeData writes the bytes of all initializers that are tensors of the
// checkpoint.
func writeData(ctx context.Context, inits []lower.Initializer, files []checkpoint.FileInfo, opt Options, dir string) (*dataFiles, []wire.Place, error) {
	d := &dataFiles{dir: dir, align: cmp.Or(opt.Align, DefaultAlign), most: opt.ShardSize, files: files, progress: opt.Progress}
	if d.align < 1 || d.align&(d.align-1) != 0 {
		return nil, nil, fmt.Errorf("onnx: alignment %d, want a power of two", d.align)
	}
	if d.most < 0 {
		return nil, nil, fmt.Errorf("onnx: shard size %d", d.most)
	}
	places, err := d.write(ctx, inits)
	if err != nil {
		d.abort()
		return nil, nil, err
	}
	return d, places, nil
}
