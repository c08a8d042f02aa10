package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/convert/array"
	"ossify/convert/msgpack"
	"ossify/convert/orbax"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/quote"
	"ossify/weight"
)

const (
	configFile = "config.json"
	configMost = 1 << 20 // bytes of it that are read
)

// A source is an open container whose arrays are bound to the parameters of the
// model that its config.json describes.
type source struct {
	kind    string
	config  *gptoss.Config
	graph   *graph.Graph
	origins map[string][]origin // by parameter, in row order
	files   []string            // that are read
	closer  io.Closer
}

func (s *source) Close() error { return s.closer.Close() }

// open finds out what kind of container is at path and binds it. config is the
// path of config.json, or "" where it lies beside.
func open(path, config string) (*source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	if !info.IsDir() {
		if !strings.EqualFold(filepath.Ext(path), ".msgpack") {
			return nil, fmt.Errorf("convert: %s: a file, want a folder, or a file of Flax that ends in .msgpack", quote.Name(path))
		}
		return openMsgpack(path, config)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	var packed []string
	tensors := false
	for _, e := range entries {
		hidden := strings.HasPrefix(e.Name(), ".")
		tensors = tensors || !hidden && strings.HasSuffix(e.Name(), ".safetensors")
		if !hidden && strings.EqualFold(filepath.Ext(e.Name()), ".msgpack") {
			packed = append(packed, e.Name())
		}
	}
	switch {
	case tensors:
		return openSafetensors(path, config)
	case len(packed) == 1:
		return openMsgpack(filepath.Join(path, packed[0]), config)
	case len(packed) > 1:
		return nil, fmt.Errorf("convert: %s: holds %s, want one of them named", quote.Name(path), quoted(packed))
	}
	item, err := orbax.Find(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("convert: %s: no *.safetensors, no *.msgpack, and no _METADATA of Orbax in it, in its folders or in theirs", quote.Name(path))
	}
	if err != nil {
		return nil, err
	}
	return openOrbax(path, item, config)
}

func quoted(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = quote.Name(n)
	}
	return strings.Join(list, ", ")
}

// parseConfig reads the configuration at path.
func parseConfig(path string) (*gptoss.Config, gptoss.Dialect, error) {
	data, err := checkpoint.ReadFile(filepath.Dir(path), filepath.Base(path), configMost)
	if err != nil {
		return nil, 0, err
	}
	return gptoss.ParseConfigDecoded(data)
}

// beside returns the first of the named files that exists.
func beside(config string, names ...string) (string, error) {
	if config != "" {
		return config, nil
	}
	for _, n := range names {
		if _, err := os.Lstat(n); err == nil {
			return n, nil
		}
	}
	return "", fmt.Errorf("convert: %s: no such file, want the model's config.json there or named by --config", quote.Name(names[0]))
}

// findConfig reads a configuration, or the first of the named files that exists.
func findConfig(config string, names ...string) (path string, c *gptoss.Config, d gptoss.Dialect, err error) {
	if path, err = beside(config, names...); err == nil {
		c, d, err = parseConfig(path)
	}
	return path, c, d, err
}

// openMsgpack opens a file of Flax.
func openMsgpack(path, config string) (*source, error) {
	dir := filepath.Dir(path)
	config, c, _, err := findConfig(config, strings.TrimSuffix(path, filepath.Ext(path))+".config.json", filepath.Join(dir, configFile))
	if err != nil {
		return nil, err
	}
	f, err := msgpack.Open(path)
	if err != nil {
		return nil, err
	}
	return bound(&source{kind: "Flax msgpack", config: c, files: []string{config, path}, closer: f}, f.Arrays())
}

// openOrbax opens an item of Orbax, which lies at path or below.
func openOrbax(path, item, config string) (*source, error) {
	// A converter puts it at the top; the item may have been named itself.
	config, c, _, err := findConfig(config, filepath.Join(path, configFile), filepath.Join(item, configFile),
		filepath.Join(item, "..", configFile), filepath.Join(item, "..", "..", configFile))
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Dir(config), item} {
		const quantized = "_quantization_metadata.json"
		if _, err := os.Lstat(filepath.Join(dir, quantized)); err == nil {
			return nil, fmt.Errorf("convert: %s: expert weights packed without their scales, from which no values follow; want bfloat16", quote.Name(filepath.Join(dir, quantized)))
		}
	}
	o, err := orbax.Open(item)
	if err != nil {
		return nil, err
	}
	return bound(&source{kind: o.Kind(), config: c, files: append([]string{config}, o.Files()...), closer: o}, o.Arrays())
}

// bound binds the arrays of a tree of parameters as JAX programs name them.
func bound(s *source, arrays []array.Array) (*source, error) {
	err := s.bindTree(arrays)
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) bindTree(arrays []array.Array) error {
	var err error
	if s.graph, err = gptoss.Build(s.config); err != nil {
		return err
	}
	byPath := map[string]array.Array{}
	for _, a := range arrays {
		path := treePath(a.Name)
		if twin, ok := byPath[path]; ok {
			return fmt.Errorf("convert: %s: the same parameter as %s, want it once", quote.Name(a.Name), quote.Name(twin.Name))
		}
		byPath[path] = a
	}
	s.origins = map[string][]origin{}
	var errs []error
	for _, p := range s.graph.Params {
		path, swapped := leaf(p.Name)
		a, ok := byPath[path]
		if !ok {
			errs = append(errs, fmt.Errorf("convert: %s: missing, want %v of it", path, wanted(path, p, swapped)))
			continue
		}
		delete(byPath, path)
		if err := fits(a, wanted(a.Name, p, swapped)); err != nil {
			errs = append(errs, err)
		}
		s.origins[p.Name] = []origin{{rows: weight.Rows(p), cols: weight.Columns(p), values: a, swapped: swapped}}
	}
	for _, a := range arrays {
		if _, ok := byPath[treePath(a.Name)]; ok {
			errs = append(errs, fmt.Errorf("convert: %s: not part of the model that config.json describes", quote.Name(a.Name)))
		}
	}
	return several(errs)
}

// several joins errors; of very many it shows the first.
func several(errs []error) error {
	const most = 20
	if n := len(errs) - most; n > 0 {
		errs = append(errs[:most:most], fmt.Errorf("convert: and %d more", n))
	}
	return errors.Join(errs...)
}

// wanted is how a parameter lies in bfloat16.
func wanted(name string, p graph.Param, swapped bool) checkpoint.Entry {
	shape := slices.Clone([]int(p.Shape))
	if n := len(shape); swapped {
		shape[n-2], shape[n-1] = shape[n-1], shape[n-2]
	}
	return checkpoint.Entry{Name: name, Type: checkpoint.BF16, Shape: shape}
}

// fits checks type and shape of an array of values. Float32 will do: it is
// refused only where bfloat16 does not hold it.
func fits(a array.Array, want checkpoint.Entry) error {
	if a.Type != checkpoint.BF16 && a.Type != checkpoint.F32 || !slices.Equal(a.Shape, want.Shape) {
		hint := ""
		if a.Type == checkpoint.U8 {
			hint = ": packed without scales, from which no values follow"
		}
		return fmt.Errorf("convert: %s: %v, want %v%s", quote.Name(a.Name), a.Entry(), want, hint)
	}
	return nil
}

// openSafetensors opens a checkpoint of either dialect, whose experts are MXFP4
// or bfloat16.
func openSafetensors(dir, config string) (*source, error) {
	config, c, dialect, err := findConfig(config, filepath.Join(dir, configFile))
	if err != nil {
		return nil, err
	}
	f, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &source{kind: "safetensors", config: c, files: []string{config}}
	files := &opened{folder: f, byName: map[string]*os.File{}}
	s.closer = files
	for _, info := range f.Files() {
		s.files = append(s.files, info.Path)
		in, err := os.Open(info.Path)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("convert: %w", err)
		}
		files.byName[info.Name] = in
	}
	if err := s.bindFolder(files, dialect); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// opened is a folder whose tensors are read from its files, not from the map: a
// page that was mapped counts as memory of ours.
type opened struct {
	folder *checkpoint.Folder
	byName map[string]*os.File
}

func (o *opened) Close() error {
	err := o.folder.Close()
	for _, f := range o.byName {
		err = errors.Join(err, f.Close())
	}
	return err
}

// array returns a tensor of the folder.
func (o *opened) array(name string) (array.Array, bool) {
	t, ok := o.folder.Tensor(name)
	if !ok {
		return array.Array{}, false
	}
	return array.Array{Name: name, Type: t.Type, Shape: t.Shape, Open: array.Sections(io.NewSectionReader(o.byName[t.File], t.Offset, int64(len(t.Data))))}, true
}

// bindFolder binds the tensors of a folder by a dialect's names.
func (s *source) bindFolder(files *opened, d gptoss.Dialect) error {
	var err error
	if s.graph, err = gptoss.Build(s.config); err != nil {
		return err
	}
	parts, err := gptoss.Parts(s.graph, s.config, d)
	if err != nil {
		return err
	}
	s.origins = map[string][]origin{}
	used := map[string]bool{}
	var errs []error
	missing := func(want checkpoint.Entry, or string) {
		errs = append(errs, fmt.Errorf("convert: %s: missing, want %v%s", want.Name, want, or))
	}
	for _, p := range parts {
		o := origin{first: p.First, rows: p.Rows, cols: weight.Columns(p.Param)}
		list := s.origins[p.Param.Name]
		if p.Scales { // of the blocks before
			if len(list) == 0 || list[len(list)-1].scales == nil {
				continue
			}
			a, ok := files.array(p.Name)
			used[p.Name] = true
			if !ok {
				missing(p.Entry, "")
			} else if a.Type != p.Type || !slices.Equal(a.Shape, p.Shape) {
				errs = append(errs, fmt.Errorf("convert: %s: %v, want %v", p.Name, a.Entry(), p.Entry))
			}
			*list[len(list)-1].scales = a
			continue
		}
		a, ok := files.array(p.Name)
		switch {
		case p.Param.Storage != graph.MXFP4 && !ok:
			missing(p.Entry, "")
		case p.Param.Storage != graph.MXFP4:
			if err := fits(a, p.Entry); err != nil {
				errs = append(errs, err)
			}
		case ok:
			if a.Type != p.Type || !slices.Equal(a.Shape, p.Shape) {
				errs = append(errs, fmt.Errorf("convert: %s: %v, want %v", p.Name, a.Entry(), p.Entry))
			}
			o.scales = new(array.Array)
		default:
			want := decodedEntry(p, d)
			b, ok := files.array(want.Name)
			used[want.Name] = true
			if !ok {
				missing(p.Entry, fmt.Sprintf("; or %s, %v", want.Name, want))
			} else if err := fits(b, want); err != nil {
				errs = append(errs, err)
			}
			a, o.swapped = b, d == gptoss.HuggingFace
		}
		used[p.Name] = true
		o.values = a
		s.origins[p.Param.Name] = append(list, o)
	}
	for _, t := range files.folder.Tensors() {
		if !used[t.Name] {
			errs = append(errs, fmt.Errorf("convert: %s: %s: not part of the model that config.json describes", t.File, quote.Name(t.Name)))
		}
	}
	return several(errs)
}

// decodedEntry is what a dialect calls an expert weight in bfloat16, and how it
// lies there: transformers exchanges inputs and outputs of experts,
// gpt_oss.torch does not.
func decodedEntry(p gptoss.Part, d gptoss.Dialect) checkpoint.Entry {
	name := strings.TrimSuffix(strings.TrimSuffix(p.Name, ".blocks"), "_blocks")
	return wanted(name, p.Param, d == gptoss.HuggingFace)
}
