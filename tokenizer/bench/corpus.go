package main

import (
	"embed"
	"fmt"
	"math/rand/v2"
	"strings"
)

//go:embed corpus/*.txt
var sources embed.FS

// corpus returns a mixed text of about size bytes, the same every time: by
// bytes 38 % English, 25 % code, 28 % in 22 other languages, 7 % JSON and 2 %
// symbols, in sections of 1 to 4 kB. A section walks through a source of
// corpus/ and jumps elsewhere at random, so that it repeats words and lines,
// as texts do, but is no repetition of the source.
func corpus(size int) (string, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	read := func(name string) string {
		b, err := sources.ReadFile("corpus/" + name + ".txt")
		if err != nil {
			panic(err) // embedded above
		}
		return string(b)
	}
	english := strings.SplitAfter(read("english"), " ")
	code := strings.SplitAfter(read("code"), "\n")
	symbols := strings.SplitAfter(read("symbols"), " ")
	var languages [][]string
	for line := range strings.Lines(read("languages")) {
		units := strings.SplitAfter(line, " ")
		if len(line)/len(units) > 40 { // written without spaces
			units = strings.Split(line, "")
		}
		languages = append(languages, units)
	}
	if len(languages) != 22 {
		return "", fmt.Errorf("corpus/languages.txt: %d languages, want 22", len(languages))
	}

	var out strings.Builder
	written := make([]float64, 5)
	for out.Len() < size {
		// The kind that is furthest behind its share.
		kind, behind := 0, -1.0
		for i, share := range []float64{0.38, 0.25, 0.28, 0.07, 0.02} {
			if b := share*float64(out.Len()+1) - written[i]; b > behind {
				kind, behind = i, b
			}
		}
		from, n := out.Len(), 1000+rng.IntN(3000)
		switch kind {
		case 0:
			walk(&out, rng, english, n, 0.1)
		case 1:
			walk(&out, rng, code, n, 0.2)
		case 2:
			walk(&out, rng, languages[rng.IntN(len(languages))], n, 0.15)
		case 3:
			records(&out, rng, n)
		case 4:
			walk(&out, rng, symbols, n/4, 0.3)
		}
		out.WriteString("\n\n")
		written[kind] += float64(out.Len() - from)
	}
	return out.String(), nil
}

// walk writes about n bytes of units, jumping with probability jump a unit.
func walk(out *strings.Builder, rng *rand.Rand, units []string, n int, jump float64) {
	at := rng.IntN(len(units))
	for end := out.Len() + n; out.Len() < end; at++ {
		if at == len(units) || rng.Float64() < jump {
			at = rng.IntN(len(units))
		}
		out.WriteString(units[at])
	}
}

// records writes about n bytes of JSON, one record a line.
func records(out *strings.Builder, rng *rand.Rand, n int) {
	names := []string{"alpha", "checkout", "Zürich", "user-profile", "東京", "load_balancer"}
	for end := out.Len() + n; out.Len() < end; {
		fmt.Fprintf(out, `{"id": "%016x", "name": "%s", "time": "2025-%02d-%02dT%02d:%02d:%02d.%03dZ", "count": %d, "ratio": %.6f, "tags": ["a%d", "b"], "ok": %v, "next": null}`+"\n",
			rng.Uint64(), names[rng.IntN(len(names))], 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24), rng.IntN(60), rng.IntN(60), rng.IntN(1000),
			rng.IntN(1_000_000), rng.Float64(), rng.IntN(100), rng.IntN(2) == 0)
	}
}
