package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What synth writes, inspect describes: in text, as JSON, and one file alone.
func TestSynthAndInspect(t *testing.T) {
	for _, layout := range []string{"original", "hf"} {
		dir := filepath.Join(t.TempDir(), "x")
		out, err := tokenCommand("", "synth", "--preset", "tiny", "--layout", layout, "--layers", "3", "--seed", "9", dir)
		if err != nil || out != "" {
			t.Fatalf("synth printed %q, %v", out, err)
		}
		text, err := tokenCommand("", "inspect", dir)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(text), " ")
		for _, want := range []string{
			"layout " + layout + " parameters 429296 layers 3 widths 64, experts 64 vocabulary 512",
			"experts 8, 4 a token", "rope theta 150000, factor 32 of 4096, alpha 1, beta 32", "TENSOR DTYPE SHAPE BYTES FILE OFFSET",
		} {
			if !strings.Contains(words, want) {
				t.Errorf("%s: text lacks %q:\n%s", layout, want, text)
			}
		}
		data, err := tokenCommand("", "inspect", "--json", dir)
		if err != nil {
			t.Fatal(err)
		}
		var got inspection
		if err := json.Unmarshal([]byte(data), &got); err != nil {
			t.Fatal(err)
		}
		tensors, files := 2+1+3*15, 1
		if layout == "hf" {
			tensors, files = 2+1+3*19, 3
		}
		if got.Layout != layout || got.Config.Layers != 3 || len(got.Tensors) != tensors || len(got.Files) != files {
			t.Errorf("%s: %d tensors in %d files, want %d in %d: %+v", layout, len(got.Tensors), len(got.Files), tensors, files, got.Config)
		}
		sum := int64(0)
		for _, x := range got.Tensors {
			sum += int64(x.Bytes)
		}
		if got.Bytes != sum || got.Types["BF16"].Bytes+got.Types["U8"].Bytes != sum {
			t.Errorf("%s: %d bytes, by type %+v, want %d", layout, got.Bytes, got.Types, sum)
		}
	}
}

func TestInspectFile(t *testing.T) {
	path := filepath.Join("..", "..", "..", "checkpoint", "testdata", "python.safetensors")
	text, err := tokenCommand("", "inspect", path)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(text), " ")
	for _, want := range []string{`metadata "format": "pt"`, "all 13 tensors, 158 B", `"scalar \"é\"" I64 [] 8 python.safetensors`, "block.0.attn.qkv.weight BF16 [2, 3] 12"} {
		if !strings.Contains(words, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
}

func TestSynthRefusesAUsedFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := tokenCommand("", "synth", "--preset", "tiny", dir)
	if want := "synth: " + dir + ": holds config.json, want a folder without a checkpoint"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
