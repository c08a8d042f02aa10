package convert

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ossify/checkpoint"
	"ossify/internal/fileset"
	"ossify/internal/quote"
)

// A journal is a hidden file in the folder that is written: what is converted, and
// the SHA-256 of each tensor that is complete. A run that was ended leaves it beside
// the files it wrote; the next run of the same conversion keeps the tensors whose
// bytes still have that sum. It goes when the conversion is complete, or failed.
type journal struct {
	path string
	file *os.File
	sums map[string]string // of tensors that an earlier run completed
}

// journalName is the journal's name.
const journalName = ".convert.ossify-part"

// journalMost is how many bytes of one are read.
const journalMost = 16 << 20

// A journalHead is the first line.
type journalHead struct {
	Conversion string   `json:"conversion"` // a digest of source, options and tensors
	Files      []string `json:"files"`      // that are written
}

// conversion is a digest of all that decides what is written. Of the source's
// files these are sizes and times: it would take as long to read them as to convert
// them.
func (s *source) conversion(opt Options, entries []checkpoint.Entry) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "ossify convert 1\n%v %v %d %d\n%+v\n", opt.Layout, opt.KeepBF16, opt.Rank, opt.Ranks, *s.config)
	for _, path := range s.files {
		info, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("convert: %w", err)
		}
		fmt.Fprintf(h, "%q %d %d\n", filepath.Base(path), info.Size(), info.ModTime().UnixNano())
	}
	for _, e := range entries {
		fmt.Fprintf(h, "%q %v\n", e.Name, e)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openJournal reads the journal of dir and begins it anew, with what it holds if it
// is of this conversion. Of another one, the parts of its files go.
func openJournal(dir string, head journalHead) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalName), sums: map[string]string{}}
	switch info, err := os.Lstat(j.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("convert: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("convert: %s: not a regular file", quote.Name(j.path))
	default:
		text, err := readMost(j.path, journalMost)
		if err != nil {
			return nil, err
		}
		j.read(dir, text, head)
	}
	var b bytes.Buffer
	first, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	fmt.Fprintf(&b, "%s\n", first)
	for name, sum := range j.sums {
		fmt.Fprintf(&b, "%s %s\n", sum, name)
	}
	// Killed before all is written, it says less than it could.
	if j.file, err = os.Create(j.path); err == nil {
		_, err = j.file.Write(b.Bytes())
	}
	if err != nil {
		j.remove()
		return nil, fmt.Errorf("convert: %w", err)
	}
	return j, nil
}

func readMost(path string, most int64) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	return text, nil
}

// read takes what an earlier run noted. What cannot be understood is not kept.
func (j *journal) read(dir string, text []byte, want journalHead) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return
	}
	var head journalHead
	if json.Unmarshal(lines.Bytes(), &head) != nil {
		return
	}
	if head.Conversion != want.Conversion {
		for _, name := range head.Files {
			if filepath.Base(name) == name && strings.HasSuffix(name, ".safetensors") {
				os.Remove(fileset.PartName(filepath.Join(dir, name)))
			}
		}
		return
	}
	for lines.Scan() {
		if sum, name, ok := strings.Cut(lines.Text(), " "); ok && len(sum) == 2*sha256.Size {
			j.sums[name] = sum
		}
	}
}

// kept reports whether an earlier run completed the tensor that r reads.
func (j *journal) kept(ctx context.Context, name string, r io.Reader) (bool, error) {
	want, ok := j.sums[name]
	if !ok {
		return false, nil
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)) == want, nil
		}
		if err != nil {
			return false, fmt.Errorf("convert: %w", err)
		}
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
	}
}

// note notes that a tensor is complete.
func (j *journal) note(name string, sum []byte) error {
	if _, err := fmt.Fprintf(j.file, "%x %s\n", sum, name); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	return nil
}

// close leaves the journal for the next run.
func (j *journal) close() { j.file.Close() }

// remove removes the journal.
func (j *journal) remove() {
	if j.file != nil {
		j.file.Close()
	}
	os.Remove(j.path)
}
