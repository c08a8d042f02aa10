package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/internal/quote"
	"ossify/internal/strictjson"
)

// IndexFile is the name of the Hugging Face shard index.
const IndexFile = "model.safetensors.index.json"

const extension = ".safetensors"

// A Folder is a checkpoint: the tensors of all its files. It is safe for use
// by several goroutines.
type Folder struct {
	dir     string
	files   []*File
	tensors []Tensor // by name
}

// A FileInfo describes one file of a Folder.
type FileInfo struct {
	Name string // within the folder
	Path string
	Size int64 // bytes
}

// Open opens a checkpoint folder: the files that IndexFile names if there is
// one (the Hugging Face layout; index and files must agree on every tensor),
// else every *.safetensors (the original layout). No two files may hold a
// tensor of the same name.
//
// Files of the folder may be symbolic links only as a Hugging Face cache has
// them; see ReadFile.
func Open(dir string) (*Folder, error) {
	f := &Folder{dir: dir}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Folder) open() error {
	shards, home, err := f.list()
	if err != nil {
		return err
	}
	for _, name := range shards {
		path, err := inside(f.dir, name)
		if err != nil {
			return err
		}
		file, err := openFile(path, name)
		if err != nil {
			return err
		}
		f.files = append(f.files, file)
		f.tensors = append(f.tensors, file.tensors...)
	}
	// Stable: of two equal names the first stands in the first file.
	slices.SortStableFunc(f.tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(f.tensors); i++ {
		if a, b := f.tensors[i-1], f.tensors[i]; a.Name == b.Name {
			return malformed(b.File, b.Name, "also in %s, want it once", a.File)
		}
	}
	if home == nil {
		return nil
	}
	for _, t := range f.tensors {
		if shard, ok := home[t.Name]; !ok {
			return malformed(IndexFile, t.Name, "missing, but %s holds it", t.File)
		} else if shard != t.File {
			return malformed(IndexFile, t.Name, "placed in %s, but %s holds it", shard, t.File)
		}
	}
	if len(home) == len(f.tensors) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(home)) {
		if _, ok := f.Tensor(name); !ok {
			return malformed(IndexFile, name, "placed in %s, which does not hold it", home[name])
		}
	}
	return nil
}

// list returns the names of the folder's safetensors files, sorted, and the
// index's weight map if it has an index.
func (f *Folder) list() (shards []string, home map[string]string, err error) {
	switch index, err := ReadFile(f.dir, IndexFile, MaxHeader); {
	case err == nil:
		home, err := parseIndex(index)
		if err != nil {
			return nil, nil, err
		}
		for _, shard := range home {
			shards = append(shards, shard)
		}
		slices.Sort(shards)
		return slices.Compact(shards), home, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", err)
	}
	for _, e := range entries {
		// Hidden files are not the checkpoint's: temporaries, and the copies
		// that macOS makes on foreign disks.
		if strings.HasSuffix(e.Name(), extension) && !strings.HasPrefix(e.Name(), ".") {
			if quote.Plain(e.Name()) != e.Name() {
				return nil, nil, malformed(e.Name(), "", "file name is not printable")
			}
			shards = append(shards, e.Name())
		}
	}
	if len(shards) == 0 {
		return nil, nil, fmt.Errorf("checkpoint: %s: no *%s and no %s", f.dir, extension, IndexFile)
	}
	return shards, nil, nil
}

// parseIndex reads a shard index and returns its weight map, from tensor names
// to the names of shards, which lie in the folder itself. What metadata says
// (total_size) is not used and not checked.
func parseIndex(data []byte) (map[string]string, error) {
	if !utf8.Valid(data) {
		return nil, malformed(IndexFile, "", "not valid UTF-8")
	}
	var home map[string]string
	s := strictjson.New(data)
	err := s.Object(func(key string) error {
		switch key {
		case "metadata":
			return s.Object(func(string) error { return s.Skip() })
		case "weight_map":
			home = make(map[string]string)
			return s.Object(func(name string) error {
				shard, err := s.String()
				if err != nil {
					return err
				}
				if err := checkShard(shard); err != nil {
					return malformed(IndexFile, name, "shard %s: %v", quote.Value(shard), err)
				}
				home[name] = shard
				return nil
			})
		}
		return fmt.Errorf("unknown field %s, want metadata and weight_map", quote.Value(key))
	})
	var format *FormatError
	switch {
	case errors.As(err, &format):
		return nil, err
	case err != nil:
		return nil, malformed(IndexFile, "", "%v", err)
	case len(home) == 0:
		return nil, malformed(IndexFile, "", "no weight_map, or an empty one")
	case !s.End():
		return nil, malformed(IndexFile, "", "data after its closing brace")
	}
	return home, nil
}

// checkShard refuses names that are not plain names of safetensors files.
func checkShard(name string) error {
	switch {
	case strings.ContainsAny(name, "/\\:\x00"):
		return errors.New("holds a separator, want the name of a file in the folder")
	case strings.Contains(name, ".."):
		return errors.New("holds .., want the name of a file in the folder")
	case quote.Plain(name) != name:
		return errors.New("not printable, want a name like model-00001-of-00003" + extension)
	case !strings.HasSuffix(name, extension) || strings.HasPrefix(name, "."):
		return errors.New("want a name like model-00001-of-00003" + extension)
	}
	return nil
}

// ReadFile returns the contents of a small file of a checkpoint folder, such
// as config.json; name is a plain file name, and most the largest size that is
// read.
//
// The file may be a symbolic link only as in a Hugging Face cache, where the
// files of snapshots/REVISION link to blobs/HASH of the same repository.
// Other links are refused: whoever made the folder would choose which of the
// user's files are read.
func ReadFile(dir, name string, most int64) ([]byte, error) {
	path, err := inside(dir, name)
	if err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if int64(len(data)) > most {
		return nil, malformed(name, "", "more than %d bytes", most)
	}
	return data, nil
}

// inside returns the path of a regular file of the folder, links resolved.
func inside(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		// Of a relative path it would be relative, and blobs is not.
		real, err := filepath.Abs(path)
		if err == nil {
			real, err = filepath.EvalSymlinks(real)
		}
		if err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
		blobs, err := cacheBlobs(dir)
		if err != nil {
			return "", err
		}
		if blobs == "" || filepath.Dir(real) != blobs {
			return "", malformed(name, "", "symbolic link to %s, want a file of the folder or, in a Hugging Face cache, a link into blobs/ of the same repository", quote.Name(real))
		}
		path = real
		if info, err = os.Stat(path); err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
	}
	if !info.Mode().IsRegular() {
		return "", malformed(name, "", "not a regular file")
	}
	return path, nil
}

// cacheBlobs returns the blobs folder of the Hugging Face cache repository in
// which dir is a snapshot (REPO/snapshots/REVISION) or a folder of one; "" if
// it is none.
func cacheBlobs(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	for parent := filepath.Dir(dir); parent != dir; dir, parent = parent, filepath.Dir(parent) {
		if filepath.Base(parent) == "snapshots" {
			return filepath.Join(filepath.Dir(parent), "blobs"), nil
		}
	}
	return "", nil
}

// Dir returns the folder's path as it was given to Open.
func (f *Folder) Dir() string { return f.dir }

// Files returns the safetensors files, sorted by name.
func (f *Folder) Files() []FileInfo {
	list := make([]FileInfo, len(f.files))
	for i, file := range f.files {
		list[i] = FileInfo{file.name, file.path, file.size}
	}
	return list
}

// Tensors returns the tensors of all files, sorted by name. The caller must
// not change the slice.
func (f *Folder) Tensors() []Tensor { return f.tensors }

// Tensor returns the tensor of that name.
func (f *Folder) Tensor(name string) (Tensor, bool) { return find(f.tensors, name) }

// Close unmaps the files. No Data of their tensors may be read afterwards.
func (f *Folder) Close() error {
	var errs []error
	for _, file := range f.files {
		errs = append(errs, file.Close())
	}
	f.files, f.tensors = nil, nil
	return errors.Join(errs...)
}
