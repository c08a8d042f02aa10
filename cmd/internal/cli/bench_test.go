package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"ossify/gptoss"
)

func TestBench(t *testing.T) {
	dir := synthesised(t, gptoss.Original)
	code, out, errs := ossify(t, "", "bench", dir, "-p", "20", "-n", "3", "--sessions", "2", "--runs", "2", "--context", "10,300", "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var r benchReport
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	positive := map[string]float64{
		"bandwidth_gbs": r.Bandwidth, "bytes_per_token": float64(r.Bytes), "bandwidth_share": r.Share, "ttft_s": r.TTFT, "load_s": r.Load,
		"prefill": r.Prefill.median(), "decode": r.Decode.median(), "decode_sessions": r.Together.median(), "threads": float64(r.Threads), "cache_bytes": float64(r.Cache),
	}
	for name, v := range positive {
		if !(v > 0) {
			t.Errorf("%s is %g", name, v)
		}
	}
	if len(r.Prefill.Rates) != 2 || len(r.Decode.Rates) != 2 || len(r.Contexts) != 2 || r.Contexts[1].Cache <= r.Contexts[0].Cache || r.Load > r.TTFT {
		t.Errorf("%+v", r)
	}
	code, out, errs = ossify(t, "", "bench", dir, "-p", "0", "-n", "2", "--runs", "1", "--precision", "f32", "--set", "portable")
	if code != 0 || !strings.Contains(out, "kernels      portable, f32") || strings.Contains(out, "prefill") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestBenchErrors(t *testing.T) {
	for _, args := range []string{"bench", "bench x --kernels", "bench x --runs 0", "bench x -n -1", "bench x --precision f16", "bench x --set fast", "bench x --context -1", "bench x y"} {
		if code, out, errs := ossify(t, "", strings.Fields(args)...); code != 2 || out != "" || errs == "" {
			t.Errorf("%s: exit %d, %q, %q; want 2 and a message", args, code, out, errs)
		}
	}
}
