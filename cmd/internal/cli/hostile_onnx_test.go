//go:build cgo && !noort

package cli

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/gptoss"
)

// A field is one of protobuf's: bytes, or a number.
func field(number uint64, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, number<<3|2), uint64(len(body))), body...)
}

func numberField(number, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3), value)
}

func textField(number uint64, format string, args ...any) []byte {
	return field(number, fmt.Appendf(nil, format, args...))
}

// doubling is an ONNX model of functions of which each calls the one before it
// twice: 2^levels operators in two kilobytes.
func doubling(levels int) []byte {
	opsets := func(number uint64) []byte {
		return append(field(number, textField(1, ""), numberField(2, 21)), field(number, textField(1, "d"), numberField(2, 1))...)
	}
	node := func(number uint64, op, in, out string) []byte {
		domain := "d"
		if op == "Neg" {
			domain = ""
		}
		return field(number, textField(1, "%s", in), textField(2, "%s", out), textField(4, "%s", op), textField(7, "%s", domain))
	}
	value := func(number uint64, name string) []byte { // float32, [1]
		return field(number, textField(1, "%s", name), field(2, field(1, numberField(1, 1), field(2, field(1, numberField(1, 1))))))
	}
	m := append(numberField(1, 10), opsets(8)...)
	for i := range levels + 1 {
		nodes := node(7, "Neg", "x", "y")
		if i > 0 {
			f := fmt.Sprint("f", i-1)
			nodes = append(node(7, f, "x", "t"), node(7, f, "t", "y")...)
		}
		m = append(m, field(25, textField(1, "f%d", i), textField(4, "x"), textField(5, "y"), nodes, opsets(9), textField(10, "d"))...)
	}
	return append(m, field(7, node(1, fmt.Sprint("f", levels), "x", "y"), textField(2, "g"), value(11, "x"), value(12, "y"))...)
}

// A model that would keep ONNX Runtime loading for minutes is refused before
// the library sees it, and is inspected all the same.
func TestModelsThatExpand(t *testing.T) {
	dir := synthesised(t, gptoss.Original)
	path, library := filepath.Join(t.TempDir(), "m.onnx"), filepath.Join("..", "..", "..", "build", "deps", "onnxruntime")
	for levels, want := range map[int]string{
		13: "m.onnx: 16383 calls of functions, want at most 8192\n",
		19: "m.onnx: 524288 operators with functions expanded, want at most 131072\n",
		60: "operators with functions expanded, want at most 131072\n",
	} {
		write(t, path, doubling(levels))
		if code, out, errs := ossify(t, "", "inspect", path); code != 0 || !strings.Contains(out, "Neg") {
			t.Errorf("inspect: exit code %d, %s%s", code, out, errs)
		}
		for _, args := range [][]string{
			{"verify", dir, "--length", "8", "--decode", "1"}, {"verify", dir, "--golden", goldenF32}, {"generate", dir, "--tokens", "1"}, {"chat", dir},
		} {
			if code, out, errs := ossify(t, "", append(args, "--onnx", path, "--onnxruntime", library)...); code != 1 || !strings.HasSuffix(errs, want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("%v: exit code %d, %s%s, want %s", args, code, out, errs, want)
			}
		}
	}
}

// No name of an ONNX model reaches the terminal as an escape sequence.
func TestNoEscapesFromModels(t *testing.T) {
	dir, out := synthesised(t, gptoss.Original), t.TempDir()
	if code, _, errs := ossify(t, "", "export", dir, "-o", out); code != 0 {
		t.Fatal(errs)
	}
	library := filepath.Join("..", "..", "..", "build", "deps", "onnxruntime")
	good := must(os.ReadFile(filepath.Join(out, "model.onnx")))
	refused := map[string]bool{"input_ids": true, "MatMul": true, "model.onnx_data": true, "past_key_values.0.key": true} // by verify, which says why
	for _, name := range []string{"input_ids", "logits", "MatMul", "ossify", "embedding.weight", "model.onnx_data", "TransformerBlock", "past_key_values.0.key"} {
		bad := bytes.ReplaceAll(good, []byte(name), []byte("\x1b[31m"+name[5:]))
		if bytes.Equal(bad, good) {
			t.Fatalf("the model has no %s", name)
		}
		path := filepath.Join(out, "bad.onnx")
		write(t, path, bad)
		for i, args := range [][]string{{"inspect", path}, {"inspect", "--json", path}, {"verify", dir, "--onnx", path, "--onnxruntime", library, "--length", "3", "--decode", "1"}} {
			if i == 2 && !refused[name] {
				continue
			}
			if _, stdout, errs := ossify(t, "", args...); strings.Contains(stdout+errs, "\x1b") || stdout+errs == "" {
				t.Errorf("%s: %v prints %q", name, args, stdout+errs)
			}
		}
	}
}
