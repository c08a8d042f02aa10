package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/parity"
)

// What trace may not replace stays as it is; its own traces it replaces.
func TestTraceOutput(t *testing.T) {
	dir, other := synthesised(t, gptoss.Original), t.TempDir()
	at := func(name string) string { return filepath.Join(other, name) }
	write(t, at("notes"), []byte("notes"))
	write(t, at("tokens"), []byte("1,2"))
	reference := []checkpoint.Tensor{{Name: "x", Type: checkpoint.U8, Shape: []int{0}}}
	if err := checkpoint.Save(at("golden"), reference, map[string]string{"format": parity.Format, "reference": "gpt-oss 0.0.9"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, model), at("link")); err != nil {
		t.Skip(err)
	}
	if err := os.Link(filepath.Join(dir, model), at("weights")); err != nil {
		t.Fatal(err)
	}
	trace := func(args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = run(t.Context(), append([]string{"trace", dir, "--no-hash"}, args...), strings.NewReader(""), &o, &e)
		return code, o.String(), e.String()
	}
	for _, tt := range []struct {
		name, output string
		args         []string
		want         string // in the error
	}{
		{"the weights", filepath.Join(dir, model), nil, "every .safetensors of that folder is read"},
		{"the weights, by force", filepath.Join(dir, model), []string{"--force"}, "every .safetensors of that folder is read"},
		{"beside the weights", filepath.Join(dir, "x.safetensors"), nil, "every .safetensors of that folder is read"},
		{"a hard link to the weights, by force", at("weights"), []string{"--force"}, "is read as"},
		{"the config, by force", filepath.Join(dir, "config.json"), []string{"--force"}, "is read as"},
		{"the tokens, by force", at("tokens"), []string{"--force"}, "is read as"},
		{"a link to the weights", at("link"), nil, "a symbolic link"},
		{"a file of the user's", at("notes"), nil, "not one that this command wrote, want a new name, or --force"},
		{"a reference's trace", at("golden"), nil, "not one that this command wrote, want a new name, or --force"},
		{"a device", "/dev/full", nil, "a device"},
		{"a device, by force", "/dev/full", []string{"--force"}, "a device"},
		{"a folder, by force", other, []string{"--force"}, "a folder"},
		{"no folder", at("none/x"), nil, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contents := func() string {
				if info, err := os.Stat(tt.output); err != nil || !info.Mode().IsRegular() {
					return "no file"
				}
				return string(must(os.ReadFile(tt.output)))
			}
			before := contents()
			left := len(must(os.ReadDir(other)))
			code, out, errs := trace(append(tt.args, "--tokens-file", at("tokens"), "-o", tt.output)...)
			if code != 1 || out != "" || !strings.Contains(errs, tt.want) {
				t.Errorf("exit code %d, output %q, errors %q, want %q", code, out, errs, tt.want)
			}
			if contents() != before {
				t.Error("it changed")
			}
			if now := len(must(os.ReadDir(other))); now != left {
				t.Errorf("%d files, want %d", now, left)
			}
		})
	}
	if info, err := os.Lstat("/dev/full"); err == nil && info.Mode().IsRegular() {
		t.Error("/dev/full is a regular file now")
	}
	for _, args := range [][]string{{"-o", at("new")}, {"-o", at("new")}, {"-o", at("notes"), "--force"}, {"-o", at("link"), "--force"}} {
		if code, _, errs := trace(append(args, "--tokens", "1,2")...); code != 0 {
			t.Errorf("%v: %s", args, errs)
		}
	}
	want := must(os.ReadFile(at("new")))
	for _, name := range []string{"-", "/dev/stdout"} {
		if code, out, errs := trace("-o", name, "--tokens", "1,2"); code != 0 || out != string(want) {
			t.Errorf("-o %s: %d bytes, want %d: %s", name, len(out), len(want), errs)
		}
	}
	if ck, err := gptoss.OpenCheckpoint(dir); err != nil {
		t.Errorf("the checkpoint is damaged: %v", err)
	} else {
		ck.Close()
	}
}
