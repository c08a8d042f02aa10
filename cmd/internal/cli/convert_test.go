package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"ossify/gptoss"
)

// Convert writes what the library does and says what it was; mistakes of use exit
// with 2, others with 1.
func TestConvert(t *testing.T) {
	src := synthesised(t, gptoss.Original)
	call := func(code int, want string, args ...string) string {
		t.Helper()
		var out, errs strings.Builder
		if got := run(t.Context(), append([]string{"convert"}, args...), nil, &out, &errs); got != code || !strings.Contains(out.String()+errs.String(), want) {
			t.Errorf("%v: code %d, %q %q; want %d, %q", args, got, out.String(), errs.String(), code, want)
		}
		return out.String()
	}
	dir := t.TempDir()
	hf := filepath.Join(dir, "hf")
	call(0, "safetensors: 79 tensors, 523520 bytes, in "+hf, src, hf, "--layout", "hf")
	var r struct{ Tensors, Kept int }
	if err := json.Unmarshal([]byte(call(0, `"kind": "safetensors"`, hf, filepath.Join(dir, "back"), "--json")), &r); err != nil || r.Tensors != 63 || r.Kept != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	call(0, "55 tensors", src, filepath.Join(dir, "rank"), "--rank", "1", "--ranks", "2")
	call(0, "55 tensors", src, filepath.Join(dir, "wide"), "--keep-bf16")
	call(1, "want a folder without a checkpoint", src, hf)
	call(1, "no such file", filepath.Join(dir, "none"), filepath.Join(dir, "x"))
	call(1, "want a number that divides intermediate_size", src, filepath.Join(dir, "x"), "--rank", "0", "--ranks", "3")
	call(2, "1 arguments, want SRC and DIR", src)
	call(2, "want --rank and --ranks together", src, filepath.Join(dir, "x"), "--ranks", "2")
	call(2, "--rank 2 of --ranks 2", src, filepath.Join(dir, "x"), "--rank", "2", "--ranks", "2")
	call(2, "--ranks is for --layout original", src, filepath.Join(dir, "x"), "--rank", "0", "--ranks", "2", "--layout", "hf")
	call(2, "--layout", src, filepath.Join(dir, "x"), "--layout", "jax")
}
