// Package orbax reads a checkpoint item as PyPI's orbax-checkpoint writes it: a
// folder with _METADATA, whose arrays lie in an OCDBT database or in folders of
// their own, in Zarr 2 or 3.
package orbax

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ossify/convert/array"
	"ossify/convert/jsonobject"
	"ossify/convert/ocdbt"
	"ossify/convert/zarr"
	"ossify/internal/quote"
)

const (
	metadata   = "_METADATA"
	unfinished = ".orbax-checkpoint-tmp" // how folders of saves end that were not completed
)

// Limits, far beyond any model of this house.
const (
	mostMetadata = 64 << 20 // bytes
	mostParams   = 1 << 16
	mostKeys     = 8 // of a parameter
	mostFiles    = 1 << 16
)

// Find returns the one folder of an item that is dir, lies in it, or in one of
// its folders: Orbax keeps items below steps. fs.ErrNotExist says that there is
// none.
func Find(dir string) (string, error) {
	var found, partial []string
	level := []string{dir}
	for range 3 {
		var next []string
		for _, d := range level {
			if strings.HasSuffix(filepath.Base(d), unfinished) {
				partial = append(partial, d)
				continue
			}
			if _, err := os.Lstat(filepath.Join(d, metadata)); err == nil {
				found = append(found, d)
				continue
			}
			list, err := os.ReadDir(d)
			if err != nil {
				return "", fmt.Errorf("orbax: %w", err)
			}
			for _, e := range list {
				if e.IsDir() {
					next = append(next, filepath.Join(d, e.Name()))
				}
			}
		}
		level = next
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("orbax: %s: holds %d items, %s and %s among them, want one of them named", quote.Name(dir), len(found), quote.Name(found[0]), quote.Name(found[len(found)-1]))
	case len(partial) > 0:
		return "", fmt.Errorf("orbax: %s: a save that was not completed", quote.Name(partial[0]))
	}
	return "", fmt.Errorf("orbax: %s: no %s: %w", quote.Name(dir), metadata, fs.ErrNotExist)
}

// An Item is an open item. Its arrays are read by one goroutine at a time.
type Item struct {
	kind   string
	arrays []array.Array
	files  []string
	close  func() error
}

// Kind says in words how the arrays are stored.
func (o *Item) Kind() string { return o.kind }

// Arrays returns the arrays, named by the keys of their tree.
func (o *Item) Arrays() []array.Array { return o.arrays }

// Files returns the paths of all files of the item.
func (o *Item) Files() []string { return o.files }

// Close closes the item. No array may be read afterwards.
func (o *Item) Close() error { return o.close() }

// Open opens the item in the folder dir.
func Open(dir string) (*Item, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("orbax: %w", err)
	}
	folder := &folder{root: root, open: map[string]*os.File{}}
	o := &Item{close: folder.Close}
	if err := o.read(dir, folder); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// read reads metadata and finds all arrays.
func (o *Item) read(dir string, in *folder) error {
	tree, err := in.tree()
	if err != nil {
		return fmt.Errorf("orbax: %s: %w", metadata, err)
	}
	var store zarr.Store = in
	o.kind = "Orbax, a folder an array, Zarr 2"
	if tree.zarr3 {
		o.kind = "Orbax, a folder an array, Zarr 3"
	}
	keys := in.keys
	if tree.ocdbt {
		o.kind = strings.Replace(o.kind, "a folder an array", "OCDBT", 1)
		if _, err := in.root.Lstat(ocdbt.Manifest); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("orbax: no %s, which %s asks for: the save was not completed", ocdbt.Manifest, metadata)
		}
		db, err := ocdbt.Open(dir)
		if err != nil {
			return err
		}
		o.close = func() error { return errors.Join(db.Close(), in.Close()) }
		store, keys = db, func() ([]string, error) { return db.Keys(), nil }
	}
	known := map[string]bool{}
	for _, p := range tree.params {
		a, err := zarr.Open(store, p.name)
		if err != nil {
			return err
		}
		a.Name = p.path
		known[p.name] = true
		o.arrays = append(o.arrays, a)
	}
	// What is stored and not named would be lost.
	list, err := keys()
	if err != nil {
		return err
	}
	for _, key := range list {
		if name, _, _ := strings.Cut(key, "/"); !known[name] {
			return fmt.Errorf("orbax: %s is stored, but %s does not name it", quote.Name(key), metadata)
		}
	}
	if o.files, err = in.files(dir); err != nil {
		return err
	}
	return nil
}

// A param is a leaf of the tree.
type param struct {
	path string // keys, joined by "/"
	name string // that its arrays have in the store: keys joined by "."
}

// A tree is what _METADATA says.
type tree struct {
	ocdbt, zarr3 bool
	params       []param // by path
}

// tree reads _METADATA.
func (f *folder) tree() (tree, error) {
	r, err := f.Get(metadata)
	if err != nil {
		return tree{}, err
	}
	if r.Size() > mostMetadata {
		return tree{}, fmt.Errorf("%d bytes, want at most %d", r.Size(), mostMetadata)
	}
	text := make([]byte, r.Size())
	if _, err := r.ReadAt(text, 0); err != nil && err != io.EOF {
		return tree{}, err
	}
	return parseTree(text)
}

// parseTree reads the text of _METADATA.
func parseTree(text []byte) (tree, error) {
	var t tree
	o, err := jsonobject.Parse(text)
	if err != nil {
		return t, err
	}
	var leaves map[string]jsonobject.Object
	if err := errors.Join(o.Read("use_ocdbt", &t.ocdbt), o.Read("tree_metadata", &leaves)); err != nil {
		return t, err
	}
	if o["use_zarr3"] != nil {
		if err := o.Read("use_zarr3", &t.zarr3); err != nil {
			return t, err
		}
	}
	if len(leaves) == 0 || len(leaves) > mostParams {
		return t, fmt.Errorf("%d parameters, want 1 to %d", len(leaves), mostParams)
	}
	byName := map[string]string{}
	for key, l := range leaves {
		p, err := leaf(l)
		if err != nil {
			return t, fmt.Errorf("%s: %w", quote.Name(key), err)
		}
		// Orbax joins keys with a point and escapes none: two parameters of one
		// name have one array.
		if twin, ok := byName[p.name]; ok {
			return t, fmt.Errorf("%s and %s are stored as %s both", quote.Name(min(twin, p.path)), quote.Name(max(twin, p.path)), quote.Name(p.name))
		}
		byName[p.name] = p.path
		t.params = append(t.params, p)
	}
	slices.SortFunc(t.params, func(a, b param) int { return strings.Compare(a.path, b.path) })
	return t, nil
}

// leaf reads what is said of a parameter. The text that it is listed by is that
// of a Python tuple; its keys stand in key_metadata too.
func leaf(o jsonobject.Object) (param, error) {
	var keys []struct {
		Key  string `json:"key"`
		Kind int    `json:"key_type"`
	}
	var value jsonobject.Object
	var kind string
	if err := errors.Join(o.Read("key_metadata", &keys), o.Read("value_metadata", &value)); err != nil {
		return param{}, err
	}
	if err := value.Read("value_type", &kind); err != nil {
		return param{}, err
	}
	if !slices.Contains([]string{"jax.Array", "np.ndarray", "scalar"}, kind) {
		return param{}, fmt.Errorf("value_type %s, want an array", quote.Value(kind))
	}
	if len(keys) == 0 || len(keys) > mostKeys {
		return param{}, fmt.Errorf("%d keys, want 1 to %d", len(keys), mostKeys)
	}
	var path []string
	for _, k := range keys {
		if k.Key == "" || strings.ContainsAny(k.Key, "/\\\x00") || k.Key == "." || k.Key == ".." {
			return param{}, fmt.Errorf("key %s, want one without / that is not empty", quote.Value(k.Key))
		}
		path = append(path, k.Key)
	}
	return param{strings.Join(path, "/"), strings.Join(path, ".")}, nil
}
