package checkpoint

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"

	"ossify/internal/fileset"
	"ossify/internal/quote"
)

// A ShardWriter writes a checkpoint that is split over several files, one tensor
// after the other.
type ShardWriter struct {
	set      *fileset.Set
	dir      string
	entries  []Entry   // all, as given
	names    []string  // file of each shard
	plan     [][]Entry // entries of each shard, in the order of writing
	metadata map[string]string
	index    bool
	writers  []*Writer // those begun
}

// CreateShards starts a checkpoint in dir, whose files belong to set. The entries are dealt out in their
// order: a shard is closed when the next tensor would take its tensors beyond
// most bytes. Within a shard they are ordered as by Sort, so Entries tells the
// order of writing.
//
// Shard i of n, counted from 0, is named name(i, n). A single shard is named
// model.safetensors, as Hugging Face has it. With index there is an IndexFile
// too, unless the shard is single.
func CreateShards(set *fileset.Set, dir string, name func(i, n int) string, entries []Entry, most int64, metadata map[string]string, index bool) (*ShardWriter, error) {
	s := &ShardWriter{set: set, dir: dir, entries: entries, metadata: metadata, index: index}
	var size int64 // of the last shard
	for _, e := range entries {
		n, ok := e.Bytes()
		if !ok {
			return nil, fmt.Errorf("checkpoint: %s: %v has no size", quote.Name(e.Name), e)
		}
		if len(s.plan) == 0 || n > most-size {
			s.plan = append(s.plan, nil)
			size = 0
		}
		last := len(s.plan) - 1
		s.plan[last] = append(s.plan[last], e)
		size += n
	}
	if len(s.plan) == 0 {
		return nil, fmt.Errorf("checkpoint: %s: no tensors to write", dir)
	}
	for i := range s.plan {
		Sort(s.plan[i])
		s.names = append(s.names, name(i, len(s.plan)))
	}
	if len(s.plan) == 1 {
		s.names[0] = "model" + extension
		s.index = false
	}
	return s, nil
}

// Entries returns all tensors in the order in which they must be written.
func (s *ShardWriter) Entries() []Entry {
	var all []Entry
	for _, shard := range s.plan {
		all = append(all, shard...)
	}
	return all
}

// Files returns the files as they will be, without the index.
func (s *ShardWriter) Files() ([]FileInfo, error) {
	var list []FileInfo
	for i, shard := range s.plan {
		header, err := encodeHeader(s.names[i], shard, s.metadata)
		if err != nil {
			return nil, err
		}
		size := int64(len(header))
		for _, e := range shard {
			n, _ := e.Bytes()
			size += n
		}
		list = append(list, FileInfo{s.names[i], filepath.Join(s.dir, s.names[i]), size})
	}
	return list, nil
}

// Tensor begins the next tensor, as Writer.Tensor does.
func (s *ShardWriter) Tensor(name string) (io.Writer, error) {
	w, err := s.at()
	if err != nil {
		return nil, err
	}
	return w.Tensor(name)
}

// Zeros writes the next tensor, as Writer.Zeros does.
func (s *ShardWriter) Zeros(name string) error {
	w, err := s.at()
	if err != nil {
		return err
	}
	return w.Zeros(name)
}

// Keep leaves the next tensor as an earlier run wrote it, as Writer.Keep does.
func (s *ShardWriter) Keep(name string, good func(io.Reader) (bool, error)) (bool, error) {
	w, err := s.at()
	if err != nil {
		return false, err
	}
	return w.Keep(name, good)
}

// at returns the writer of the next tensor.
func (s *ShardWriter) at() (*Writer, error) {
	i := len(s.writers)
	if i == 0 || i < len(s.plan) && s.writers[i-1].next == len(s.plan[i-1]) {
		if i > 0 {
			if err := s.writers[i-1].Close(); err != nil {
				return nil, err
			}
		}
		w, err := Create(s.set, filepath.Join(s.dir, s.names[i]), s.plan[i], s.metadata)
		if err != nil {
			return nil, err
		}
		s.writers = append(s.writers, w)
		i++
	}
	return s.writers[i-1], nil
}

// Close completes the last shard and writes the index.
func (s *ShardWriter) Close() error {
	n := len(s.writers)
	if n < len(s.plan) {
		return fmt.Errorf("checkpoint: %s: %s: not written", quote.Name(s.dir), s.names[n])
	}
	if err := s.writers[n-1].Close(); err != nil || !s.index {
		return err
	}
	return s.set.WriteFile(filepath.Join(s.dir, IndexFile), s.encodeIndex())
}

// encodeIndex returns the shard index: one line, like Python's json module
// writes it by default, the tensors in the order in which they were dealt out.
func (s *ShardWriter) encodeIndex() []byte {
	home := make(map[string]string, len(s.entries))
	for i, shard := range s.plan {
		for _, e := range shard {
			home[e.Name] = s.names[i]
		}
	}
	var total int64
	var b bytes.Buffer
	for i, e := range s.entries {
		n, _ := e.Bytes()
		total += n
		if i > 0 {
			b.WriteString(", ")
		}
		encodeJSON(&b, e.Name)
		b.WriteString(": ")
		encodeJSON(&b, home[e.Name])
	}
	return fmt.Appendf(nil, `{"metadata": {"total_size": %d}, "weight_map": {%s}}`, total, b.Bytes())
}
