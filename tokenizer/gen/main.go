// Command gen writes the two generated files of package tokenizer:
//
//	vocab.bin   the 199,998 mergeable tokens of o200k_base, in rank order:
//	            one length byte each, then all their bytes
//	classes.go  the scanner's class of every code point, as a two-stage table
//
// It is a module of its own so that the rank file's carrier, a 7 MB module, is
// no dependency of ossify. Run it with
//
//	go generate ./tokenizer
//
// With -check it writes nothing and fails when a file differs.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

const (
	rankFile   = "o200k_base.tiktoken"
	rankSHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
	rankCount  = 199998
)

func main() {
	dir := flag.String("dir", "..", "the folder of package tokenizer")
	check := flag.Bool("check", false, "compare with the files there instead of writing them")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	ranks, err := assets.Assets.ReadFile(rankFile)
	if err != nil {
		return err
	}
	vocab, err := packVocabulary(ranks)
	if err != nil {
		return fmt.Errorf("%s: %w", rankFile, err)
	}
	ranges, err := os.ReadFile(filepath.Join(dir, "testdata", "unicode16-ranges.json"))
	if err != nil {
		return err
	}
	classes, err := classTable(ranges)
	if err != nil {
		return fmt.Errorf("unicode16-ranges.json: %w", err)
	}
	files := []file{{"vocab.bin", vocab}, {"classes.go", classes}}
	if check {
		return compare(dir, files)
	}
	return write(dir, files)
}

// A file is one that is generated.
type file struct {
	name string
	data []byte
}

// compare fails when a file differs from what dir has.
func compare(dir string, files []file) error {
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, f.data) {
			return fmt.Errorf("%s is not what this program writes; run go generate ./tokenizer", path)
		}
	}
	return nil
}

// write writes all files into dir under temporary names, then renames them. If
// one cannot be written, dir is as before. (A module of its own has no access
// to ossify's fileset.)
func write(dir string, files []file) (err error) {
	temps := make([]string, len(files))
	defer func() {
		for _, temp := range temps {
			if err != nil && temp != "" {
				os.Remove(temp)
			}
		}
	}()
	for i, f := range files {
		temp, err := os.CreateTemp(dir, "."+f.name+".*.tmp")
		if err != nil {
			return err
		}
		temps[i] = temp.Name()
		_, err = temp.Write(f.data)
		if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
			return err
		}
	}
	for i, f := range files {
		if err := os.Rename(temps[i], filepath.Join(dir, f.name)); err != nil {
			return err
		}
		temps[i] = ""
	}
	return nil
}

// packVocabulary checks the rank file's hash and that its ranks count up from
// 0, and returns vocab.bin.
func packVocabulary(ranks []byte) ([]byte, error) {
	sum := sha256.Sum256(ranks)
	if got := hex.EncodeToString(sum[:]); got != rankSHA256 {
		return nil, fmt.Errorf("sha256 %s, want %s", got, rankSHA256)
	}
	var lengths, data []byte
	for line := range strings.Lines(string(ranks)) {
		b64, rank, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if rank != strconv.Itoa(len(lengths)) {
			return nil, fmt.Errorf("rank %q after %d tokens", rank, len(lengths))
		}
		token, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, err
		}
		if len(token) == 0 || len(token) > 128 {
			return nil, fmt.Errorf("rank %s: %d bytes, want 1 to 128", rank, len(token))
		}
		lengths = append(lengths, byte(len(token)))
		data = append(data, token...)
	}
	if len(lengths) != rankCount {
		return nil, fmt.Errorf("%d tokens, want %d", len(lengths), rankCount)
	}
	return append(lengths, data...), nil
}

// classOf gives the scanner's classes in the order of the constants in scan.go.
var classOf = []struct {
	category string
	class    byte
}{
	{"Lu", '1'}, {"Lt", '1'}, {"Ll", '2'}, {"Lm", '3'}, {"Lo", '3'}, {"M", '4'}, {"N", '5'}, {"S", '6'},
}

const blockSize = 256 // code points in a block of the second stage

// classTable returns classes.go.
func classTable(ranges []byte) ([]byte, error) {
	var categories map[string][][2]int
	if err := json.Unmarshal(ranges, &categories); err != nil {
		return nil, err
	}
	class := bytes.Repeat([]byte{'0'}, 0x110000)
	for _, c := range classOf {
		if len(categories[c.category]) == 0 {
			return nil, fmt.Errorf("no ranges for %s", c.category)
		}
		for _, r := range categories[c.category] {
			for cp := r[0]; cp <= r[1]; cp++ {
				if class[cp] != '0' {
					return nil, fmt.Errorf("U+%04X is in two categories", cp)
				}
				class[cp] = c.class
			}
		}
	}
	class['\n'], class['\r'] = '7', '7'

	var out bytes.Buffer
	out.WriteString("// Code generated by go generate ./tokenizer (tokenizer/gen) from testdata/unicode16-ranges.json. DO NOT EDIT.\n\npackage tokenizer\n\n")
	out.WriteString("// classBlocks holds the class of each code point of every distinct block of 256,\n// one digit each. Block 0 is U+0000 to U+00FF.\nconst classBlocks = \"\" +\n")
	number := map[string]int{}
	var index []int
	for cp := 0; cp < len(class); cp += blockSize {
		block := string(class[cp : cp+blockSize])
		n, seen := number[block]
		if !seen {
			n = len(number)
			number[block] = n
			fmt.Fprintf(&out, "\t// %d: U+%04X\n", n, cp)
			for i := 0; i < blockSize; i += 64 {
				fmt.Fprintf(&out, "\t%q +\n", block[i:i+64])
			}
		}
		index = append(index, n)
	}
	if len(number) > 256 {
		return nil, fmt.Errorf("%d distinct blocks, want at most 256", len(number))
	}
	out.WriteString("\t\"\"\n\n// classIndex gives the block of the code points that share the bits above the low 8.\nvar classIndex = [0x110000 >> 8]uint8{")
	for i, n := range index {
		if i%16 == 0 {
			out.WriteString("\n\t")
		}
		fmt.Fprintf(&out, "%d, ", n)
	}
	out.WriteString("\n}\n")
	return format.Source(out.Bytes())
}
