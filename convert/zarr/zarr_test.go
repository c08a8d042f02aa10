package zarr

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// A store in memory.
type store map[string][]byte

func (s store) Get(key string) (*io.SectionReader, error) {
	v, ok := s[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return io.NewSectionReader(bytes.NewReader(v), 0, int64(len(v))), nil
}

// A sample is an array to be written.
type sample struct {
	shape, chunk, inner []int // inner: of version 3, chunks in shards; else nil
	v3, zstd, inFront   bool
	sep                 string
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// each calls f with all indices below shape, the last the fastest.
func each(shape []int, f func(at []int)) {
	at := make([]int, len(shape))
	for range count(shape) {
		f(at)
		for i := len(at) - 1; i >= 0; i-- {
			if at[i]++; at[i] < shape[i] {
				break
			}
			at[i] = 0
		}
	}
}

// write stores the array whose element i is i, as uint16 that is called bfloat16,
// and returns its bytes.
func (x sample) write(t testing.TB, s store, name string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	all := make([]byte, 2*count(x.shape))
	for i := range len(all) / 2 {
		binary.LittleEndian.PutUint16(all[2*i:], uint16(i))
	}
	// chunk is what lies at an index of a grid of a shape; 0xee beyond the array.
	chunk := func(shape, at []int) []byte {
		var b []byte
		each(shape, func(in []int) {
			n, within := 0, true
			for i := range in {
				p := at[i]*shape[i] + in[i]
				within = within && p < x.shape[i]
				n = n*x.shape[i] + p
			}
			if within {
				b = append(b, all[2*n:2*n+2]...)
			} else {
				b = append(b, 0xee, 0xee)
			}
		})
		if x.zstd {
			b = enc.EncodeAll(b, nil)
		}
		return b
	}
	grid := make([]int, len(x.shape))
	for i := range grid {
		grid[i] = (x.shape[i] + x.chunk[i] - 1) / x.chunk[i]
	}
	each(grid, func(at []int) {
		key := name + "/" + joined(at, x.sep)
		if len(at) == 0 {
			key = name + "/0"
		}
		if x.v3 {
			if key = name + "/c"; len(at) > 0 {
				key += x.sep + joined(at, x.sep)
			}
		}
		if x.inner == nil {
			s[key] = chunk(x.chunk, at)
			return
		}
		per, corner := make([]int, len(at)), make([]int, len(at))
		for i := range per {
			per[i] = x.chunk[i] / x.inner[i]
			corner[i] = at[i] * per[i]
		}
		var data, index []byte
		size := 16*count(per) + 4
		each(per, func(in []int) {
			inner := make([]int, len(in))
			outside := false
			for i := range in {
				inner[i] = corner[i] + in[i]
				outside = outside || inner[i]*x.inner[i] >= x.shape[i]
			}
			if outside { // as TensorStore has it
				index = binary.LittleEndian.AppendUint64(index, math.MaxUint64)
				index = binary.LittleEndian.AppendUint64(index, math.MaxUint64)
				return
			}
			b := chunk(x.inner, inner)
			offset := len(data)
			if x.inFront {
				offset += size
			}
			index = binary.LittleEndian.AppendUint64(index, uint64(offset))
			index = binary.LittleEndian.AppendUint64(index, uint64(len(b)))
			data = append(data, b...)
		})
		index = binary.LittleEndian.AppendUint32(index, crc32.Checksum(index, crc32.MakeTable(crc32.Castagnoli)))
		if x.inFront {
			s[key] = append(index, data...)
		} else {
			s[key] = append(data, index...)
		}
	})
	meta, text := meta2, x.meta2
	if x.v3 {
		meta, text = meta3, x.meta3
	}
	b, err := json.Marshal(text())
	if err != nil {
		t.Fatal(err)
	}
	s[name+"/"+meta] = b
	return all
}

type object = map[string]any

func (x sample) meta2() object {
	o := object{"zarr_format": 2, "shape": x.shape, "chunks": x.chunk, "dtype": "bfloat16", "compressor": nil, "fill_value": nil, "order": "C", "filters": nil, "dimension_separator": x.sep}
	if x.zstd {
		o["compressor"] = object{"id": "zstd", "level": 1}
	}
	return o
}

func (x sample) meta3() object {
	codecs := []any{object{"name": "bytes", "configuration": object{"endian": "little"}}}
	if x.zstd {
		codecs = append(codecs, object{"name": "zstd", "configuration": object{"level": 3, "checksum": false}})
	}
	if x.inner != nil {
		at := "end"
		if x.inFront {
			at = "start"
		}
		codecs = []any{object{"name": "sharding_indexed", "configuration": object{"chunk_shape": x.inner, "codecs": codecs, "index_location": at,
			"index_codecs": []any{object{"name": "bytes", "configuration": object{"endian": "little"}}, object{"name": "crc32c"}}}}}
	}
	return object{"zarr_format": 3, "node_type": "array", "shape": x.shape, "data_type": "bfloat16", "fill_value": 0.0, "codecs": codecs, "attributes": object{},
		"chunk_grid": object{"name": "regular", "configuration": object{"chunk_shape": x.chunk}}, "chunk_key_encoding": object{"name": "default", "configuration": object{"separator": x.sep}}}
}

// readAll reads an array in portions of any size.
func readAll(s store, name string, portion int) ([]byte, error) {
	a, err := Open(s, name)
	if err != nil {
		return nil, err
	}
	r, err := a.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var all []byte
	buf := make([]byte, portion)
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Arrays of any shape in chunks of any shape are read as they were written, and
// without any one of their chunks not at all.
func TestArrays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 160 {
		x := sample{v3: n%2 == 0, zstd: n%3 > 0, inFront: n%4 == 0, sep: []string{".", "/"}[n/8%2]}
		for range n % 5 {
			x.shape = append(x.shape, 1+r.IntN(7))
			x.chunk = append(x.chunk, 1+r.IntN(4))
			if r.IntN(3) == 0 {
				x.chunk[len(x.chunk)-1] = x.shape[len(x.shape)-1]
			}
		}
		if x.shape == nil {
			x.shape, x.chunk = []int{}, []int{}
		}
		if x.v3 && n%4 < 2 {
			x.inner = slices.Clone(x.chunk)
			for i := range x.chunk {
				x.chunk[i] *= 1 + r.IntN(3)
			}
		}
		s := store{}
		want := x.write(t, s, "a.b")
		got, err := readAll(s, "a.b", 1+r.IntN(50))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%+v: %d bytes, want %d; %v", x, len(got), len(want), err)
		}
		for _, key := range slices.Sorted(maps.Keys(s)) {
			v := s[key]
			delete(s, key)
			if got, err := readAll(s, "a.b", 100); err == nil {
				t.Fatalf("%+v: without %s: %d bytes", x, key, len(got))
			} else if !strings.HasSuffix(key, meta2) && !strings.HasSuffix(key, meta3) && !strings.Contains(err.Error(), "is missing") {
				t.Fatalf("%+v: without %s: %v", x, key, err)
			}
			s[key] = v
		}
	}
}

// Damage of every kind is an error that says where.
func TestDamage(t *testing.T) {
	plain := sample{shape: []int{5, 4}, chunk: []int{2, 4}, zstd: true, sep: "."}
	raw := sample{shape: []int{5, 4}, chunk: []int{2, 4}, sep: "."}
	shards := sample{shape: []int{5, 4}, chunk: []int{4, 4}, inner: []int{2, 4}, v3: true, zstd: true, sep: "/"}
	index := func(s store, key string, edit func([]byte)) {
		v := slices.Clone(s[key])
		i := v[len(v)-36 : len(v)-4]
		edit(i)
		binary.LittleEndian.PutUint32(v[len(v)-4:], crc32.Checksum(i, crc32.MakeTable(crc32.Castagnoli)))
		s[key] = v
	}
	edit := func(key, old, text string) func(s store) {
		return func(s store) {
			v := strings.Replace(string(s[key]), old, text, 1)
			if v == string(s[key]) {
				panic(old + " is not in " + v)
			}
			s[key] = []byte(v)
		}
	}
	for _, tt := range []struct {
		name string
		of   sample
		edit func(s store)
		want string
	}{
		{"a chunk cut", plain, func(s store) { s["a/1.0"] = s["a/1.0"][:10] }, "zarr: a: chunk [1 0]: the zstd frame is cut off"},
		{"a chunk empty", plain, func(s store) { s["a/1.0"] = nil }, "zarr: a: chunk [1 0]: no zstd frame"},
		{"a chunk of another size", plain, func(s store) { s["a/1.0"] = s["a/1.0"][:0:0] }, "chunk [1 0]"},
		{"a chunk twice", plain, func(s store) { s["a/1.0"] = append(s["a/1.0"], s["a/1.0"]...) }, "bytes after the zstd frame"},
		{"a chunk larger", plain, func(s store) { s["a/1.0"] = s["b"] }, "chunk [1 0]: the zstd frame has more bytes than wanted"},
		{"a raw chunk shorter", raw, func(s store) { s["a/1.0"] = s["a/1.0"][1:] }, "chunk [1 0]: 15 bytes, want 16"},
		{"a raw chunk longer", raw, func(s store) { s["a/1.0"] = append(s["a/1.0"], 0) }, "chunk [1 0]: 17 bytes, want 16"},

		{"a shard without its index", shards, func(s store) { s["a/c/1/0"] = s["a/c/1/0"][:20] }, "a/c/1/0: shard of 20 bytes, want at least the 36"},
		{"an index that is damaged", shards, func(s store) { s["a/c/0/0"][len(s["a/c/0/0"])-10] ^= 1 }, "the shard's index has CRC-32C"},
		{"an inner chunk missing", shards, func(s store) {
			index(s, "a/c/0/0", func(b []byte) { copy(b, bytes.Repeat([]byte{0xff}, 16)) })
		}, "chunk [0 0] of a/c/0/0 is missing"},
		{"a chunk in the index", shards, func(s store) {
			index(s, "a/c/0/0", func(b []byte) { binary.LittleEndian.PutUint64(b[24:], 60) })
		}, "want them between 0 and"},
		{"a chunk whose end overflows", shards, func(s store) {
			index(s, "a/c/0/0", func(b []byte) {
				binary.LittleEndian.PutUint64(b, 1<<63)
				binary.LittleEndian.PutUint64(b[8:], 1<<63)
			})
		}, "has 9223372036854775808 bytes at 9223372036854775808"},
		{"chunks that overlap", shards, func(s store) { index(s, "a/c/0/0", func(b []byte) { copy(b[16:], b[:16]) }) }, "overlap"},

		{"no metadata", plain, func(s store) { delete(s, "a/.zarray") }, "zarr: a: no .zarray and no zarr.json"},
		{"two metadata", plain, func(s store) { s["a/zarr.json"] = s["a/.zarray"] }, "want one of them"},
		{"metadata cut", plain, edit("a/.zarray", "}", ""), "EOF"},
		{"key twice", plain, edit("a/.zarray", `"order"`, `"shape":[1],"order"`), `key "shape" appears twice`},
		{"unknown key", plain, edit("a/.zarray", `"order"`, `"x":1,"order"`), `key "x"`},
		{"large metadata", plain, func(s store) { s["a/.zarray"] = make([]byte, mostMeta+1) }, "metadata of 1048577 bytes"},
		{"blosc", plain, edit("a/.zarray", `"zstd"`, `"blosc"`), `compressor "blosc", want zstd or none`},
		{"order of columns", plain, edit("a/.zarray", `"C"`, `"F"`), `order "F", want "C"`},
		{"filters", plain, edit("a/.zarray", `"filters":null`, `"filters":[{"id":"delta"}]`), "filters, want none"},
		{"big endian", plain, edit("a/.zarray", `"bfloat16"`, `">f4"`), `dtype ">f4"`},
		{"version 4", plain, edit("a/.zarray", `"zarr_format":2`, `"zarr_format":4`), "zarr_format is 4, want 2"},
		{"chunk of nothing", plain, edit("a/.zarray", `"chunks":[2,4]`, `"chunks":[0,4]`), "want 1 or more in each dimension"},
		{"negative chunk", plain, edit("a/.zarray", `"chunks":[2,4]`, `"chunks":[-2,4]`), "want 0 or more"},
		{"chunks of other dimensions", plain, edit("a/.zarray", `"chunks":[2,4]`, `"chunks":[2]`), "chunks of 1 dimensions, want 2"},
		{"size that overflows", plain, edit("a/.zarray", `"shape":[5,4]`, `"shape":[4611686018427387904,4]`), "no size"},
		{"chunk that overflows", plain, edit("a/.zarray", `"chunks":[2,4]`, `"chunks":[4611686018427387904,4]`), "have no size"},
		{"no elements", plain, edit("a/.zarray", `"shape":[5,4]`, `"shape":[0,4]`), "no elements"},
		{"very many chunks", plain, edit("a/.zarray", `"shape":[5,4]`, `"shape":[1099511627776,4]`), "more than 1048576 chunks"},
		{"nine dimensions", plain, edit("a/.zarray", `"shape":[5,4]`, `"shape":[1,1,1,1,1,1,1,1,1]`), "more than 8 dimensions"},
		{"separator", plain, edit("a/.zarray", `"dimension_separator":"."`, `"dimension_separator":"../"`), `dimension_separator "../"`},

		{"a group", shards, edit("a/zarr.json", `"node_type":"array"`, `"node_type":"group"`), "group, regular grid, default keys"},
		{"another grid", shards, edit("a/zarr.json", `"regular"`, `"rectangular"`), "rectangular grid"},
		{"shards that are not whole", shards, edit("a/zarr.json", `"chunk_shape":[2,4]`, `"chunk_shape":[3,4]`), "want a whole number"},
		{"inner chunk of nothing", shards, edit("a/zarr.json", `"chunk_shape":[2,4]`, `"chunk_shape":[0,4]`), "want a whole number"},
		{"very many inner chunks", shards, edit("a/zarr.json", `"chunk_shape":[4,4]`, `"chunk_shape":[4194304,4]`), "more than 1048576 chunks in a shard"},
		{"another index codec", shards, edit("a/zarr.json", `"crc32c"`, `"zstd"`), "index_codecs"},
		{"a transposition", shards, edit("a/zarr.json", `{"configuration":{"checksum":false,"level":3},"name":"zstd"}`, `{"name":"transpose"}`), `codecs "bytes transpose"`},
		{"big endian codec", shards, edit("a/zarr.json", `"endian":"little"`, `"endian":"big"`), `codecs "bytes zstd"`},
		{"unknown place of an index", shards, edit("a/zarr.json", `"end"`, `"middle"`), `index_location "middle"`},
		{"unknown key of shards", shards, edit("a/zarr.json", `"index_location"`, `"location"`), `key "location"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := store{}
			sample{shape: []int{9}, chunk: []int{9}, zstd: true, sep: "."}.write(t, s, "other")
			s["b"] = s["other/0"]
			tt.of.write(t, s, "a")
			if _, err := readAll(s, "a", 100); err != nil {
				t.Fatal(err)
			}
			tt.edit(s)
			if _, err := readAll(s, "a", 100); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A separator that is null is the usual one.
func TestNullSeparator(t *testing.T) {
	for key, x := range map[string]sample{
		"a/.zarray":   {shape: []int{5, 4}, chunk: []int{2, 4}, sep: "."},
		"a/zarr.json": {shape: []int{5, 4}, chunk: []int{2, 4}, v3: true, sep: "/"},
	} {
		s := store{}
		want := x.write(t, s, "a")
		meta := regexp.MustCompile(`separator":"[./]"`).ReplaceAll(s[key], []byte(`separator":null`))
		if bytes.Equal(meta, s[key]) {
			t.Fatalf("%s: no separator in %s", key, meta)
		}
		s[key] = meta
		if got, err := readAll(s, "a", 100); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", key, len(got), err)
		}
	}
}

// Chunks that lie beside each other in great number are refused, not opened.
func TestManyBeside(t *testing.T) {
	s := store{}
	x := sample{shape: []int{2, mostBeside + 1}, chunk: []int{2, 1}, sep: "."}
	x.write(t, s, "a")
	if _, err := readAll(s, "a", 100); err == nil || !strings.Contains(err.Error(), "more than 256 chunks beside each other") {
		t.Errorf("got %v", err)
	}
	// One after the other they are no matter.
	y := sample{shape: []int{mostBeside + 1, 2}, chunk: []int{1, 2}, sep: "."}
	want := y.write(t, s, "b")
	if got, err := readAll(s, "b", 100); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Whatever metadata, chunks and index are: an error, or all bytes of the shape.
func FuzzArray(f *testing.F) {
	for i, x := range []sample{
		{shape: []int{5, 4}, chunk: []int{2, 4}, zstd: true, sep: "."},
		{shape: []int{5, 4}, chunk: []int{4, 4}, inner: []int{2, 4}, v3: true, zstd: true, sep: "/"},
	} {
		s := store{}
		x.write(f, s, "a")
		meta, key := "a/.zarray", "a/0.0"
		if i == 1 {
			meta, key = "a/zarr.json", "a/c/0/0"
		}
		f.Add(i == 1, s[meta], s[key])
	}
	f.Fuzz(func(t *testing.T, v3 bool, meta, chunk []byte) {
		s := store{"a/" + meta2: meta}
		if v3 {
			s = store{"a/" + meta3: meta}
		}
		a, err := Open(everywhere{s, chunk}, "a")
		if err != nil {
			return
		}
		n, ok := a.Entry().Bytes()
		if !ok || n == 0 {
			t.Fatalf("%v", a.Entry())
		}
		if n > 1<<20 {
			return
		}
		r, err := a.Open()
		if err != nil {
			return
		}
		defer r.Close()
		if data, err := io.ReadAll(r); err == nil && int64(len(data)) != n {
			t.Errorf("%d bytes of %v", len(data), a.Entry())
		}
	})
}

// everywhere is a store whose other keys all have one value.
type everywhere struct {
	store
	chunk []byte
}

func (e everywhere) Get(key string) (*io.SectionReader, error) {
	if r, err := e.store.Get(key); err == nil || strings.HasSuffix(key, meta2) || strings.HasSuffix(key, meta3) {
		return r, err
	}
	return io.NewSectionReader(bytes.NewReader(e.chunk), 0, int64(len(e.chunk))), nil
}
