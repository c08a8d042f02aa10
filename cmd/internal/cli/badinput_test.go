package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/internal/modeltest"
)

// synthesised returns a folder with a tiny checkpoint.
func synthesised(t *testing.T, d gptoss.Dialect) string {
	t.Helper()
	return modeltest.Write(t, modeltest.Tiny(t), d, 1)
}

const model = "model.safetensors"

// editHeader changes the JSON header of a safetensors file.
func editHeader(t *testing.T, path string, edit func(string) string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(data)
	before := string(data[8 : 8+n])
	after := edit(before)
	if before == after {
		t.Fatal("the header is unchanged")
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(after)))
	out = append(out, after...)
	write(t, path, append(out, data[8+n:]...))
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func replace(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}

// entry returns the header's text of one tensor.
func entry(header, name string) string {
	i := strings.Index(header, `"`+name+`"`)
	return header[i : i+strings.Index(header[i:], "}")+1]
}

// Bad checkpoints and requests give one line that says where, what and what
// was wanted, exit code 1, and no output.
func TestBadInput(t *testing.T) {
	const sinks = "block.0.attn.sinks"
	tests := []struct {
		name    string
		dialect gptoss.Dialect
		spoil   func(t *testing.T, dir string)
		args    []string // of trace, where not the usual
		want    []string // parts of the message
	}{
		{name: "truncated file", spoil: func(t *testing.T, dir string) {
			data, err := os.ReadFile(filepath.Join(dir, model))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, model), data[:len(data)-100])
		}, want: []string{model, "block.3.mlp.mlp2_weight.scales", "data_offsets", "bytes of data"}},
		{name: "empty file", spoil: func(t *testing.T, dir string) { write(t, filepath.Join(dir, model), nil) }, want: []string{model, "want"}},
		{name: "header of 2^63 bytes", spoil: func(t *testing.T, dir string) {
			data, err := os.ReadFile(filepath.Join(dir, model))
			if err != nil {
				t.Fatal(err)
			}
			binary.LittleEndian.PutUint64(data, 1<<63)
			write(t, filepath.Join(dir, model), data)
		}, want: []string{model, "9223372036854775808", "want"}},
		{name: "duplicate key", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), replace(`"block.1.attn.sinks"`, `"block.0.attn.sinks"`))
		}, want: []string{model, sinks}},
		{name: "overlap", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), func(h string) string {
				var sink struct {
					Offsets []int64 `json:"data_offsets"`
				}
				_, body, _ := strings.Cut(entry(h, sinks), ":")
				if err := json.Unmarshal([]byte(body), &sink); err != nil {
					t.Fatal(err)
				}
				old := must(json.Marshal(sink.Offsets))
				sink.Offsets[0], sink.Offsets[1] = sink.Offsets[0]-2, sink.Offsets[1]-2
				return strings.Replace(h, string(old), string(must(json.Marshal(sink.Offsets))), 1)
			})
		}, want: []string{model, sinks, "overlap"}},
		{name: "gap", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), func(h string) string {
				return strings.Replace(h, entry(h, sinks)+",", "", 1)
			})
		}, want: []string{model}},
		{name: "wrong dtype", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), func(h string) string {
				e := entry(h, sinks)
				return strings.Replace(h, e, strings.Replace(e, "BF16", "F16", 1), 1)
			})
		}, want: []string{model, sinks, "F16 [8]", "want BF16 [8]"}},
		{name: "wrong shape", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), func(h string) string {
				e := entry(h, sinks)
				return strings.Replace(h, e, strings.Replace(e, "[8]", "[4,2]", 1), 1)
			})
		}, want: []string{model, sinks, "BF16 [4, 2]", "want BF16 [8]"}},
		{name: "shape that overflows", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), func(h string) string {
				e := entry(h, sinks)
				return strings.Replace(h, e, strings.Replace(e, "[8]", "[4294967296,4294967296]", 1), 1)
			})
		}, want: []string{model, sinks}},
		{name: "missing tensor", spoil: func(t *testing.T, dir string) {
			editHeader(t, filepath.Join(dir, model), replace(`"`+sinks+`"`, `"block.0.attn.sink"`))
		}, want: []string{sinks + ": missing, want BF16 [8]"}},
		{name: "extra tensor", spoil: func(t *testing.T, dir string) {
			extra := filepath.Join(dir, "extra.safetensors")
			if err := checkpoint.Save(extra, []checkpoint.Tensor{{Name: "block.9.attn.sinks", Type: checkpoint.BF16, Shape: []int{1}, Data: []byte{0, 0}}}, nil); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"extra.safetensors", "block.9.attn.sinks", "not part of the model"}},
		{name: "scale 255", spoil: func(t *testing.T, dir string) {
			f, err := checkpoint.OpenFile(filepath.Join(dir, model))
			if err != nil {
				t.Fatal(err)
			}
			at, _ := f.Tensor("block.2.mlp.mlp2_weight.scales")
			f.Close()
			data, err := os.ReadFile(filepath.Join(dir, model))
			if err != nil {
				t.Fatal(err)
			}
			data[at.Offset+5] = 255
			write(t, filepath.Join(dir, model), data)
		}, want: []string{model, "block.2.mlp.mlp2_weight.scales", "255", "want"}},
		{name: "shard outside the folder", dialect: gptoss.HuggingFace, spoil: func(t *testing.T, dir string) {
			index := filepath.Join(dir, "model.safetensors.index.json")
			data, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			write(t, index, bytes.Replace(data, []byte(`"model-00001-of`), []byte(`"../model-00001-of`), 1))
		}, want: []string{"model.safetensors.index.json", "../model-00001-of"}},
		{name: "config with zero heads", spoil: func(t *testing.T, dir string) {
			config := filepath.Join(dir, "config.json")
			data, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			write(t, config, bytes.Replace(data, []byte(`"num_attention_heads": 8`), []byte(`"num_attention_heads": 0`), 1))
		}, want: []string{"config.json", "num_attention_heads", "want"}},
		{name: "config is no JSON", spoil: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "config.json"), []byte("{")) }, want: []string{"config.json"}},
		{name: "no config", spoil: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "config.json")) }, want: []string{"config.json"}},
		{name: "no checkpoint", spoil: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, model)) }, want: []string{"safetensors"}},
		{name: "token id out of range", args: []string{"--tokens", "1,512"}, want: []string{"512"}},
		{name: "negative token id", args: []string{"--tokens", "-1"}, want: []string{"-1"}},
		{name: "token that is no number", args: []string{"--tokens", "1,x"}, want: []string{"x"}},
		{name: "empty tokens", args: []string{"--tokens", ""}, want: []string{"no tokens"}},
		{name: "position beyond the end", args: []string{"--tokens", "1,2", "--positions", "2"}, want: []string{"2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.dialect == 0 {
				tt.dialect = gptoss.Original
			}
			dir := synthesised(t, tt.dialect)
			if tt.spoil != nil {
				tt.spoil(t, dir)
			}
			if tt.args == nil {
				tt.args = []string{"--tokens", "1,2,3"}
			}
			target := filepath.Join(t.TempDir(), "trace.safetensors")
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"trace", dir, "-o", target}, tt.args...), strings.NewReader(""), &out, &errs)
			message := errs.String()
			if code != 1 || out.Len() > 0 {
				t.Errorf("exit code %d, output %q, want 1 and none\n%s", code, out.String(), message)
			}
			// A checkpoint may have several faults, each a line of its own.
			for _, line := range strings.Split(strings.TrimSpace(message), "\n") {
				if len(line) > 400 {
					t.Errorf("a line of %d characters: %s", len(line), line)
				}
			}
			for _, part := range tt.want {
				if !strings.Contains(message, part) {
					t.Errorf("got %swant %q in it", message, part)
				}
			}
			left, err := os.ReadDir(filepath.Dir(target))
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// What comes out of files and names reaches no terminal as an escape sequence.
func TestNoEscapes(t *testing.T) {
	dir := synthesised(t, gptoss.HuggingFace)
	const esc = "\x1b[31m"
	named := filepath.Join(t.TempDir(), esc+".safetensors")
	if err := checkpoint.Save(named, []checkpoint.Tensor{{Name: esc, Type: checkpoint.U8, Shape: []int{0}}}, map[string]string{esc: esc}); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), esc)
	if err := os.Mkdir(odd, 0o777); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(dir, checkpoint.IndexFile)
	write(t, index, bytes.ReplaceAll(must(os.ReadFile(index)), []byte(`"model-00001-of-00002.safetensors"`), []byte(`"m\u001b[31m.safetensors"`)))
	for _, args := range [][]string{
		{"inspect", named}, {"inspect", "--json", named}, {"inspect", odd}, {"inspect", odd + "/x"}, {"inspect", dir}, {esc}, {"inspect", "--" + esc}, {"synth", "--preset", esc, "x"},
		{"trace", dir, "-o", esc, "--tokens", esc}, {"synth", "--preset", "tiny", named + "/x"}, {"help", esc},
	} {
		var out, errs bytes.Buffer
		run(t.Context(), args, strings.NewReader(""), &out, &errs)
		if all := out.String() + errs.String(); strings.Contains(all, "\x1b") || all == "" {
			t.Errorf("%q prints %q", args, all)
		}
	}
}

// A file of a checkpoint is told from one that is none, and what to give in its
// place.
func TestInspectOtherFiles(t *testing.T) {
	dir := synthesised(t, gptoss.Original)
	_, err := tokenCommand("", "inspect", filepath.Join(dir, "config.json"))
	if want := "checkpoint: config.json: JSON text, want a safetensors file (" + dir + ", its folder, is a checkpoint to inspect)"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// How a command was called wrongly is said with exit code 2.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nope"}, {"--nope"}, {"trace"}, {"trace", "dir"}, {"trace", "dir", "-o", "x", "--precision", "f16", "--tokens", "1"},
		{"synth", "--preset", "21b", "dir"}, {"verify", "dir", "--faults"}, {"inspect"}, {"synth", "--seed", "x", "dir"}, {"export"}, {"conform"}, {"demo", "--prompt", "a", "--conversation", "b"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code != 2 || out.Len() > 0 || !strings.HasPrefix(errs.String(), "ossify: usage: ") {
			t.Errorf("%q: exit code %d, output %q, errors %q", args, code, out.String(), errs.String())
		}
	}
}

// Every command has help with an example.
func TestHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	for _, c := range newRoot(program{}).Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if c.Example == "" && !c.HasSubCommands() || c.Short == "" {
			t.Errorf("%s: no example or no summary", c.Name())
		}
		if !strings.Contains(out.String(), c.Name()) {
			t.Errorf("%s is not in the list", c.Name())
		}
	}
}
