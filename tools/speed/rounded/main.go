// Rounded writes the logits of gpt-oss as llama.cpp and ik_llama.cpp have it: with the bounds of YaRN's
// ramp rounded to whole dimensions, and nothing else changed. What their logits differ from these is
// their arithmetic. The trace is that of `ossify trace --precision f32 --stages unembedding`.
//
//	go run ./tools/speed/rounded DIR TOKENS-FILE OUTPUT
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"ossify/fault"
	"ossify/gptoss"
	"ossify/verify"
)

const name = "YaRN bounds rounded" // of the table of faults

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "rounded: want DIR TOKENS-FILE OUTPUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "rounded:", err)
		os.Exit(1)
	}
}

func run(dir, tokens, output string) error {
	q := verify.TraceRequest{Precision: "f32", Stages: []string{"unembedding"}}
	text, err := os.ReadFile(tokens)
	if err != nil {
		return err
	}
	for _, word := range strings.Fields(string(text)) {
		id, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return fmt.Errorf("%s: %w", tokens, err)
		}
		q.Tokens = append(q.Tokens, uint32(id))
	}
	c, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, f := range fault.Table() {
		if f.Name == name {
			c.Graph = f.Graph(c.Graph)
			return verify.WriteTrace(context.Background(), output, c, q)
		}
	}
	return fmt.Errorf("no fault %q in the table", name)
}
