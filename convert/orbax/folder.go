package orbax

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ossify/convert/ocdbt"
	"ossify/convert/zarr"
	"ossify/internal/quote"
)

// A folder is the store of arrays that have folders of their own: a key is a
// path. It holds few files open, and opens them again when they are read.
type folder struct {
	root *os.Root
	open map[string]*os.File
	turn []string // paths of those, the longest open first
}

// mostOpen is how many files are open at once: those of chunks that lie beside
// each other.
const mostOpen = 256

// Get returns the file at a path.
func (f *folder) Get(key string) (*io.SectionReader, error) {
	if !fs.ValidPath(key) || strings.ContainsAny(key, "\\:\x00") {
		return nil, fmt.Errorf("orbax: %s: want a path within the item's folder", quote.Name(key))
	}
	// No part of it may be a link: data lies where Orbax wrote it.
	var size int64
	for at := key; ; at = at[:strings.LastIndexByte(at, '/')] {
		info, err := f.root.Lstat(at)
		switch {
		case err != nil:
			return nil, fmt.Errorf("orbax: %w", err)
		case at != key && !info.IsDir():
			return nil, fmt.Errorf("orbax: %s: not a folder", quote.Name(at))
		case at == key && !info.Mode().IsRegular():
			return nil, fmt.Errorf("orbax: %s: not a regular file", quote.Name(at))
		case at == key:
			size = info.Size()
		}
		if !strings.Contains(at, "/") {
			return io.NewSectionReader(&fileAt{f, key}, 0, size), nil
		}
	}
}

// A fileAt is read at any place.
type fileAt struct {
	folder *folder
	path   string
}

func (a *fileAt) ReadAt(p []byte, off int64) (int, error) {
	in, err := a.folder.file(a.path)
	if err != nil {
		return 0, err
	}
	return in.ReadAt(p, off)
}

// file returns an open file.
func (f *folder) file(path string) (*os.File, error) {
	if in := f.open[path]; in != nil {
		return in, nil
	}
	if len(f.turn) == mostOpen {
		f.open[f.turn[0]].Close()
		delete(f.open, f.turn[0])
		f.turn = slices.Delete(f.turn, 0, 1)
	}
	in, err := f.root.Open(path)
	if err != nil {
		return nil, fmt.Errorf("orbax: %w", err)
	}
	f.open[path] = in
	f.turn = append(f.turn, path)
	return in, nil
}

// Close closes all files.
func (f *folder) Close() error { return ocdbt.CloseFiles(f.root, f.open) }

// keys returns those of the metadata of all arrays.
func (f *folder) keys() ([]string, error) {
	list, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("orbax: %w", err)
	}
	var keys []string
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		within, err := fs.ReadDir(f.root.FS(), e.Name())
		if err != nil {
			return nil, fmt.Errorf("orbax: %w", err)
		}
		for _, file := range within {
			if zarr.IsMeta(file.Name()) {
				keys = append(keys, e.Name()+"/"+file.Name())
			}
		}
	}
	return keys, nil
}

// files returns the paths of all files, below dir.
func (f *folder) files(dir string) ([]string, error) {
	var list []string
	err := fs.WalkDir(f.root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("orbax: %w", err)
		}
		if d.Type().IsRegular() {
			list = append(list, filepath.Join(dir, filepath.FromSlash(path)))
		}
		if len(list) > mostFiles {
			return fmt.Errorf("orbax: %s: more than %d files", quote.Name(dir), mostFiles)
		}
		return nil
	})
	return list, err
}
