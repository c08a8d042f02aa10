// Command bench times package tokenizer beside PyPI tiktoken 0.14.0 (Rust) and
// github.com/tiktoken-go/tokenizer, in one run and on one text:
//
//	cd tokenizer/bench && go run .
//
// It needs Python 3 and installs tiktoken into the folder of -dir. Each engine
// encodes the text with one thread; they take turns, and the medians are
// printed. It is a module of its own so that the other library is no
// dependency of ossify.
package main

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	other "github.com/tiktoken-go/tokenizer"

	"ossify/tokenizer"
)

const tiktokenVersion = "0.14.0"

//go:embed reference.py
var script string

func main() {
	dir := flag.String("dir", "../../build/bench", "for the Python environment and the text")
	rounds := flag.Int("rounds", 9, "turns of each engine")
	file := flag.String("file", "", "a text to encode instead of the mixed one")
	flag.Parse()
	if err := run(*dir, *file, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(dir, file string, rounds int) error {
	runtime.GOMAXPROCS(1)
	text, err := corpus(1_000_000)
	if file != "" {
		var b []byte
		b, err = os.ReadFile(file)
		text = strings.ToValidUTF8(string(b), "")
	}
	if err != nil {
		return err
	}
	ours := tokenizer.New()
	rust, err := startTiktoken(dir, text, ours)
	if err != nil {
		return err
	}
	theirs, err := other.Get(other.O200kBase)
	if err != nil {
		return err
	}

	var ids []uint32
	var theirIDs []uint
	engines := []*engine{
		{name: "ossify/tokenizer", encode: func() { ids = ours.EncodeOrdinary(nil, text) }},
		{name: "tiktoken " + tiktokenVersion + " (PyPI, Rust)", remote: rust.encode},
		{name: "tiktoken-go/tokenizer v0.10.0", encode: func() { theirIDs, _, err = theirs.Encode(text) }},
	}
	// Ours goes between the two others: A B A C A B …
	for range rounds {
		for _, i := range []int{0, 1, 0, 2} {
			if err := engines[i].turn(); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return err
	}
	rustIDs, err := rust.finish()
	if err != nil {
		return err
	}

	fmt.Printf("Text: %d bytes, sha256 %.16x, %d ids. %s, %s/%s, one thread, %d turns each.\n\n",
		len(text), sha256.Sum256([]byte(text)), len(ids), runtime.Version(), runtime.GOOS, runtime.GOARCH, rounds)
	fmt.Println("| engine | median | MB/s | ossify is faster | allocations | allocated | ids |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for i, e := range engines {
		same := "the same"
		switch i {
		case 1:
			if !slices.Equal(ids, rustIDs) {
				same = "**differ**"
			}
		case 2:
			if !slices.EqualFunc(ids, theirIDs, func(a uint32, b uint) bool { return uint(a) == b }) {
				same = fmt.Sprintf("differ: %d ids", len(theirIDs))
			}
		}
		allocs, bytes := "", ""
		if e.encode != nil {
			allocs, bytes = fmt.Sprint(e.allocs), fmt.Sprintf("%.1f MB", float64(e.bytes)/1e6)
		}
		fmt.Printf("| %s | %.1f ms | %.1f | %.1f × | %s | %s | %s |\n", e.name, ms(median(e.times)),
			float64(len(text))/1e6/median(e.times).Seconds(), float64(median(e.times))/float64(median(engines[0].times)), allocs, bytes, same)
	}

	fmt.Println("\nOne letter:")
	for _, n := range []int{125_000, 250_000, 500_000, 1_000_000} {
		run := strings.Repeat("a", n)
		e := engine{encode: func() { ours.EncodeOrdinary(nil, run) }}
		for range 3 {
			if err := e.turn(); err != nil {
				return err
			}
		}
		fmt.Printf("  %7d bytes %7.1f ms %6.1f MB/s\n", n, ms(median(e.times)), float64(n)/1e6/median(e.times).Seconds())
	}

	return start(dir)
}

// start times New, and the whole command ossify on one word.
func start(dir string) error {
	program, err := filepath.Abs(filepath.Join(dir, "ossify"))
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", program, "./cmd/ossify")
	build.Dir, build.Stderr = "../..", os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build ./cmd/ossify: %w", err)
	}
	var news, wall, cpu []time.Duration
	for range 21 {
		t := time.Now()
		tokenizer.New()
		news = append(news, time.Since(t))
		c := exec.Command(program, "tokenize", "hello")
		t = time.Now()
		if err := c.Run(); err != nil {
			return err
		}
		wall = append(wall, time.Since(t))
		cpu = append(cpu, c.ProcessState.UserTime()+c.ProcessState.SystemTime())
	}
	fmt.Printf("\nStart: New %.1f ms; ossify tokenize hello %.1f ms, of which %.1f ms on the processor (medians of 21).\n",
		ms(median(news)), ms(median(wall)), ms(median(cpu)))
	return nil
}

// engine is one tokenizer under test: encode is timed here, remote times
// itself.
type engine struct {
	name          string
	encode        func()
	remote        func() (time.Duration, error)
	times         []time.Duration
	allocs, bytes uint64 // of one encode
}

func (e *engine) turn() error {
	if e.remote != nil {
		d, err := e.remote()
		e.times = append(e.times, d)
		return err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	t := time.Now()
	e.encode()
	e.times = append(e.times, time.Since(t))
	runtime.ReadMemStats(&after)
	e.allocs, e.bytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	return nil
}

func median(times []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(times))
	return s[len(s)/2]
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// tiktoken is a Python process that encodes the text when asked.
type tiktoken struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	ids string // the file for the ids
}

// startTiktoken installs the package if it is not there, gives it the rank
// file, which the embedded vocabulary is, and starts it.
func startTiktoken(dir, text string, ours *tokenizer.Tokenizer) (*tiktoken, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(dir, "ranks")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	var ranks strings.Builder
	for id := range uint32(tokenizer.Ordinary) {
		token, _ := ours.Token(id)
		fmt.Fprintf(&ranks, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(token)), id)
	}
	textFile := filepath.Join(dir, "text")
	for name, data := range map[string]string{
		// tiktoken's name for the file: the SHA-1 of its URL.
		filepath.Join(cache, "fb374d419588a4632f3f557e76b4b70aebbca790"): ranks.String(),
		textFile: text,
	} {
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			return nil, err
		}
	}
	python := filepath.Join(dir, "tiktoken-"+tiktokenVersion, "bin", "python")
	if exec.Command(python, "-c", "import tiktoken").Run() != nil {
		for _, args := range [][]string{
			{"python3", "-m", "venv", filepath.Join(dir, "tiktoken-"+tiktokenVersion)},
			{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "tiktoken==" + tiktokenVersion},
		} {
			c := exec.Command(args[0], args[1:]...)
			c.Stdout, c.Stderr = os.Stderr, os.Stderr
			if err := c.Run(); err != nil {
				return nil, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
			}
		}
	}
	t := &tiktoken{ids: filepath.Join(dir, "ids")}
	t.cmd = exec.Command(python, "-c", script, textFile, t.ids)
	t.cmd.Env = append(os.Environ(), "TIKTOKEN_CACHE_DIR="+cache)
	t.cmd.Stderr = os.Stderr
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = t.out.ReadString('\n')
	return t, err
}

func (t *tiktoken) encode() (time.Duration, error) {
	if _, err := io.WriteString(t.in, "\n"); err != nil {
		return 0, err
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return time.Duration(ns), err
}

// finish ends the process and returns its ids.
func (t *tiktoken) finish() ([]uint32, error) {
	if err := t.in.Close(); err != nil {
		return nil, err
	}
	if err := t.cmd.Wait(); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(t.ids)
	if err != nil {
		return nil, err
	}
	ids := make([]uint32, len(b)/4)
	for i := range ids {
		ids[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return ids, nil
}
