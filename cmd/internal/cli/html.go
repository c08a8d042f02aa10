package cli

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/internal/fileset"
	"ossify/parity"
	"ossify/parity/page"
	"ossify/verify"
)

// epochVariable names an environment variable with the seconds since 1970 that
// a report says it was made at, as reproducible-builds.org has it.
const epochVariable = "SOURCE_DATE_EPOCH"

// A reportFile is a page that appears when it is complete; nil is none.
type reportFile struct {
	path string
	set  *fileset.Set
	file *fileset.File
}

// createReport starts a report's file, before the work that fills it: a name
// that cannot be written is said at once. inputs are files read meanwhile, beside
// those of the checkpoint's folder dir, if it is not "".
func createReport(c *cobra.Command, dir, path string, force bool, inputs ...string) (*reportFile, error) {
	if fileset.Stdout(path) {
		return nil, usage("--html %s, want a file: standard output has the report as text", path)
	}
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			in := filepath.Join(dir, e.Name())
			if s, err := os.Stat(in); err == nil && s.Mode().IsRegular() && !isReport(in) {
				inputs = append(inputs, in)
			}
		}
	}
	r := &reportFile{path: path, set: fileset.New(c.Context(), fileset.Options{Inputs: inputs, Ours: isReport, Force: force})}
	var err error
	if r.file, err = r.set.Create(path); err != nil {
		return nil, err
	}
	return r, nil
}

// isReport reports whether a file is a report that we wrote.
func isReport(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, len(page.Mark))
	_, err = io.ReadFull(f, start)
	return err == nil && string(start) == page.Mark
}

// write completes the file.
func (f *reportFile) write(page func(w io.Writer) error) error {
	if err := page(f.file); err != nil {
		return err
	}
	return f.set.Commit()
}

// pageOf is for write: a parity report, of what is named.
func pageOf(name string, r *parity.Report) func(w io.Writer) error {
	return func(w io.Writer) error { return page.Write(w, name, r) }
}

// abort gives up, unless the file is complete.
func (f *reportFile) abort() {
	if f != nil {
		f.set.Abort()
	}
}

// provenance says what is compared, by which program, on which machine. hash is
// the checkpoint's, or why there is none.
func (v *verifyCommand) provenance(c *cobra.Command, ck *gptoss.Checkpoint, dir, hash string, t *verify.Golden, o engine.Options) ([]parity.Fact, error) {
	var list []parity.Fact
	add := func(name, format string, args ...any) {
		list = append(list, parity.Fact{Name: name, Text: fmt.Sprintf(format, args...)})
	}
	add("checkpoint", "%s, %v layout", dir, ck.Dialect)
	add("checkpoint, hash", "%s", hash)
	m := ck.Config
	add("model", "%d layers of width %d, every other with a window of %d; %d heads of %d, %d with keys; %d experts, %d a token; %d ids",
		m.Layers, m.Dim, m.Window, m.Heads, m.HeadDim, m.KVHeads, m.Experts, m.ExpertsPerToken, m.Vocab)
	if t != nil {
		sum, err := fileHash(c, t.Path())
		if err != nil {
			return nil, err
		}
		add("golden", "%s, SHA-256 %s", t.Path(), sum)
		meta := t.Metadata()
		for _, key := range slices.Sorted(maps.Keys(meta)) {
			if key != "checkpoint" && key != "format" {
				add("golden, "+key, "%s", meta[key])
			}
		}
	}
	if v.onnx.model != "" {
		sum, err := fileHash(c, v.onnx.model)
		if err != nil {
			return nil, err
		}
		add("ONNX model", "%s, SHA-256 %s", v.onnx.model, sum)
	}
	made, err := madeBy(c, o.Kernels.Name)
	return append(list, made...), err
}

// madeBy says by which command, program and machine something is made, and when.
func madeBy(c *cobra.Command, kernels string) ([]parity.Fact, error) {
	b := thisBuild()
	built := b.Version + ", " + b.Go
	if b.Commit != "" {
		built += ", commit " + b.Commit + " of " + b.Time
	}
	if b.Modified {
		built += ", modified"
	}
	made, err := madeAt()
	if err != nil {
		return nil, err
	}
	return []parity.Fact{
		{Name: "command", Text: commandLine(c)},
		{Name: "ossify", Text: built},
		{Name: "machine", Text: fmt.Sprintf("%s/%s, %s, %d processors, kernels %s", runtime.GOOS, runtime.GOARCH, processor(), runtime.NumCPU(), kernels)},
		{Name: "made", Text: made.UTC().Format(time.RFC3339)},
	}, nil
}

// fileHash returns a file's SHA-256 in hexadecimal.
func fileHash(c *cobra.Command, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		if err := c.Context().Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// commandLine is what was called, its flags sorted by name.
func commandLine(c *cobra.Command) string {
	words := []string{c.CommandPath()}
	for _, a := range c.Flags().Args() {
		words = append(words, quoted(a))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" && f.Value.String() == "true" {
			words = append(words, "--"+f.Name)
			return
		}
		words = append(words, "--"+f.Name, quoted(f.Value.String()))
	})
	return strings.Join(words, " ")
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+%", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// processor is the processor's name, where the system tells it in a file.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "processor not said"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor not said"
}

// madeAt is now, or what the environment says.
func madeAt() (time.Time, error) {
	text := os.Getenv(epochVariable)
	if text == "" {
		return time.Now(), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<38 {
		return time.Time{}, fmt.Errorf("$%s is %.40q, want seconds since 1970", epochVariable, text)
	}
	return time.Unix(n, 0), nil
}
