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
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/graph"
	"ossify/internal/fileset"
	"ossify/onnx/lower"
	"ossify/onnx/wire"
	"ossify/weight"
)

// Names of the files that [Export] writes: data files beyond the first are
// model.onnx_data_1 and so on, as transformers.js looks for them.
const (
	ModelFile = "model.onnx"
	DataFile  = "model.onnx_data"
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
	Name     string            // of the model's graph, default "model"
	Titles   map[string]string // names of functions, by the last word of a module's path; default that word

	// Fixed sizes of the inputs; 0 leaves one symbolic. Total is past + seq.
	Batch, Seq, Total int

	Positions int // that the model can tell apart, default DefaultPositions

	// Weights is what bfloat16 tensors of the checkpoint become: float, which is
	// exact, float16, or, by default, what they are. Others stay as they are.
	Weights wire.DataType

	// InPlace writes no data: the model refers to the sources' own files, and
	// is written beside them.
	InPlace   bool
	Align     int64 // of tensors in data files, default DefaultAlign
	ShardSize int64 // of a data file at most, in bytes, but for larger tensors; 0 is no limit

	// Files are written besides: what a program needs that loads folders. In
	// place, those that are there already stay.
	Files  []File
	Folder string // of the model and its data, below dir; "" is dir itself

	Inputs []string // files that were read, which must stay; the sources' need not be named
	Force  bool     // replace files that are no former export's

	Version  string            // of the program, as producer_version
	Metadata map[string]string // metadata_props, besides those of Export

	Progress func(done, total int64) // bytes of data written; may be nil
}

// A File is one of an export that is made in memory, when the model and the
// names of its data files are known.
type File struct {
	Name string // in the export's folder
	Make func(Made) ([]byte, error)
}

// Made is what an export has beside such files.
type Made struct {
	Data            []string // names of the data files, below its folder
	Inputs, Outputs []*wire.Value
}

// Result says what an export wrote.
type Result struct {
	Files []string // slash-separated, below dir; the model first
	Bytes int64    // of data files
	Copy  string   // how data was written: "", "reflink", "direct" or "buffered"
}

// producer says who made a model.
const producer = "ossify"

// Metadata keys of what Export adds.
const (
	keyTarget  = "ossify.target"                // what lower.ParseTarget reads
	keyWeights = "ossify.weights"               // what ParseWeights reads
	keyFiles   = "ossify.files"                 // of the export, besides the model
	keySource  = "ossify.source.files"          // names and sizes
	keyHeaders = "ossify.source.headers.sha256" // see headerDigest
)

// OptionsOf returns the options by which a model of ossify's own was made, as
// far as they change what it computes: its target, and the type of its weights.
func OptionsOf(s *Summary) (o Options, err error) {
	if o.Target, err = lower.ParseTarget(s.Metadata[keyTarget]); err != nil {
		return o, err
	}
	if weights, ok := s.Metadata[keyWeights]; ok { // version 1 had none, and converted none
		o.Weights, err = ParseWeights(weights)
	}
	return o, err
}

// Export writes g as ONNX into dir, which it makes if need be, as model.onnx and
// its data. All files appear together; if Export fails or ctx ends, dir is as
// before. Files of a former export are replaced, those of its data that this
// one has not are removed; others are refused unless opt.Force.
func Export(ctx context.Context, g *graph.Graph, w *weight.Set, opt Options, dir string) (*Result, error) {
	if opt.Target.Name == "" {
		opt.Target = lower.Portable()
	}
	// Scales are read while the graph is lowered: in place that is half of the time.
	scanning, cancel := context.WithCancel(ctx)
	checked := make(chan error, 1)
	go func() {
		checked <- checkScales(scanning, w)
		close(checked)
	}()
	defer func() { cancel(); <-checked }()
	low, err := lower.Graph(g, w, lower.Options{
		Target: opt.Target, Inline: opt.Inline, Trace: opt.Trace, LastOnly: opt.LastOnly, Titles: opt.Titles,
		Batch: opt.Batch, Seq: opt.Seq, Total: opt.Total, Positions: opt.Positions, Weights: opt.Weights,
	})
	if err != nil {
		return nil, err
	}
	metadata := maps.Clone(opt.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata[keyTarget], metadata[keyWeights] = opt.Target.String(), cmp.Or(weightsNames[opt.Weights], weightsNames[0])
	if err := describe(w.Files(), metadata); err != nil {
		return nil, err
	}

	old := formerly(dir)
	inputs := slices.Clone(opt.Inputs)
	for _, f := range w.Files() {
		inputs = append(inputs, f.Path)
	}
	set := fileset.New(ctx, fileset.Options{Inputs: inputs, Ours: old.has, Force: opt.Force})
	defer set.Abort()
	folder := filepath.Join(dir, filepath.FromSlash(opt.Folder))
	if err := set.MkdirAll(folder); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	result := &Result{Files: []string{path.Join(opt.Folder, ModelFile)}}
	// What may not be replaced is said before anything is read.
	modelFile, err := set.Create(filepath.Join(folder, ModelFile))
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	beside := make([]*fileset.File, len(opt.Files))
	for i, f := range opt.Files {
		to := filepath.Join(dir, f.Name)
		if _, err := os.Lstat(to); err == nil && opt.InPlace && !old.has(to) {
			continue
		}
		if beside[i], err = set.Create(to); err != nil {
			return nil, fmt.Errorf("onnx: %w", err)
		}
	}
	if err := <-checked; err != nil {
		return nil, err
	}
	var places []wire.Place
	if opt.InPlace {
		places, err = inPlace(low.Initializers, w.Files(), dir)
	} else {
		d := &dataFiles{set: set, dir: folder, align: cmp.Or(opt.Align, DefaultAlign), most: opt.ShardSize, files: w.Files(), progress: opt.Progress}
		places, err = writeData(ctx, d, low.Initializers)
		result.Bytes, result.Copy = d.bytes, d.method
		for _, name := range d.names {
			result.Files = append(result.Files, path.Join(opt.Folder, name))
		}
	}
	if err != nil {
		return nil, err
	}
	all := Made{Data: result.Files[1:], Inputs: low.Inputs, Outputs: low.Outputs}
	for i, f := range opt.Files {
		if beside[i] == nil {
			continue
		}
		made, err := f.Make(all)
		if err != nil {
			return nil, err
		}
		if _, err := beside[i].Write(made); err != nil {
			return nil, fmt.Errorf("onnx: %s: %w", f.Name, err)
		}
		result.Files = append(result.Files, f.Name)
	}
	metadata[keyFiles] = strings.Join(result.Files[1:], "\n")
	if err := wire.Write(modelFile, join(low, places, metadata, opt)); err != nil {
		return nil, fmt.Errorf("onnx: %s: %w", ModelFile, err)
	}
	for _, name := range old.files {
		if path.Dir(name) == path.Dir(result.Files[0]) && !slices.Contains(result.Files, name) && !packaged[name] {
			if err := set.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				return nil, fmt.Errorf("onnx: %w", err)
			}
		}
	}
	if err := set.Commit(); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	return result, nil
}

// join makes a lowered graph and the places of its weights a model.
func join(low *lower.Model, places []wire.Place, metadata map[string]string, opt Options) *wire.Model {
	m := &wire.Model{
		IR:              low.IR,
		Producer:        producer,
		ProducerVersion: opt.Version,
		Doc:             "Exported by ossify. Functions are the modules and operations of the model; a stage's value has the path that it has in PyTorch.",
		Opsets:          low.Opsets,
		Functions:       low.Functions,
		Graph:           &wire.Graph{Name: cmp.Or(opt.Name, "model"), Values: low.Values, Nodes: low.Nodes, Inputs: low.Inputs, Outputs: low.Outputs},
	}
	for i := range low.Initializers {
		in := &low.Initializers[i]
		t := &wire.Tensor{Name: in.Name, Type: in.Type, Floats: in.Floats}
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
			return "", fmt.Errorf("onnx: %w", shortened(f.Path, err))
		}
		n := binary.LittleEndian.Uint64(prefix)
		if n > checkpoint.MaxHeader {
			return "", fmt.Errorf("onnx: %s: header of %d bytes, want at most %d", f.Name, n, checkpoint.MaxHeader)
		}
		io.WriteString(sum, f.Name+"\x00")
		sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(f.Size)))
		sum.Write(prefix)
		if _, err := io.CopyN(sum, in, int64(n)); err != nil {
			return "", fmt.Errorf("onnx: %w", shortened(f.Path, err))
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
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
			if in.Type != lower.ElementType(t.Type) {
				return nil, fmt.Errorf("onnx: %s: %v in its file, want that in place, not %v", in.Name, t.Type, in.Type)
			}
			n, _ := t.Entry().Bytes()
			places[i] = wire.Place{File: t.File, Offset: t.Offset, Length: n}
		}
	}
	return places, nil
}

// writeData writes the bytes of all initializers that are tensors of the
// checkpoint.
func writeData(ctx context.Context, d *dataFiles, inits []lower.Initializer) ([]wire.Place, error) {
	switch {
	case d.align < 1 || d.align&(d.align-1) != 0:
		return nil, fmt.Errorf("onnx: alignment %d, want a power of two", d.align)
	case d.most < 0:
		return nil, fmt.Errorf("onnx: shard size %d, want 0 or more", d.most)
	}
	return d.write(ctx, inits)
}
