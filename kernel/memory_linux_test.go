package kernel

import (
	"fmt"
	"syscall"
	"testing"
)

// inHugePages copies b to where the processor looks up few pages, as it does in
// the page cache. Else a read is half as fast, and a product a tenth slower.
func inHugePages(tb testing.TB, b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	m, err := syscall.Mmap(-1, 0, len(b)+4<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Madvise(m, syscall.MADV_HUGEPAGE); err != nil {
		tb.Logf("no huge pages: %v", err)
	}
	return m[:copy(m, b)]
}

// In memory: the shapes of gpt-oss-20b, beside the bandwidth of the same minute.
func BenchmarkMemory(b *testing.B) {
	for _, m := range []struct {
		name       string
		kind       Kind
		rows, cols int
	}{
		{"mlp1", MXFP4, 5760 * 32, 2880},
		{"qkv", BF16, 5120 * 10, 2880},
		{"out", BF16, 2880 * 10, 4096},
		{"unembedding", BF16, 201088, 2880},
	} {
		var w Matrix // kept for all cases; the mapping goes with the process
		for _, workers := range []int{1, 2} {
			for _, half := range []bool{true, false} {
				for _, n := range []int{1, 2, 4, 8, 16, 64} {
					for _, set := range every() {
						if set.Name == "portable" {
							continue
						}
						b.Run(fmt.Sprintf("%s/%s/workers=%d/rows=%d/%s", m.name, entryName(m.kind, half), workers, n, set.Name), func(b *testing.B) {
							if w.Data == nil {
								w = benchMatrix(m.kind, m.rows, m.cols)
								w.Data, w.Scales = inHugePages(b, w.Data), inHugePages(b, w.Scales)
							}
							var before float64
							for range 3 {
								before = max(before, set.ReadBandwidth(w.Data, workers))
							}
							benchProduct(b, &set, &w, half, n, workers)
							b.ReportMetric(max(before, set.ReadBandwidth(w.Data, workers))/1e9, "GB/s-memory")
						})
					}
				}
			}
		}
	}
}
