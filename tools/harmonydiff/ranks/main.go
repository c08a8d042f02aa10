// Command ranks writes our vocabulary in tiktoken's form, which openai-harmony
// reads. It accepts the file only with OpenAI's sha256.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"

	"ossify/tokenizer"
)

func main() {
	t := tokenizer.New()
	out := bufio.NewWriter(os.Stdout)
	for id := range uint32(tokenizer.Ordinary) {
		token, _ := t.Token(id)
		fmt.Fprintln(out, base64.StdEncoding.EncodeToString([]byte(token)), id)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "ranks:", err)
		os.Exit(1)
	}
}
