package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ossify/gptoss"
	"ossify/graph"
	"ossify/weight"
)

// Containers of a model's size that take kilobytes: Orbax's hold each array as
// chunks of one value everywhere, which zstd writes as lengths; the others are
// sparse files, in which all is zero but some values at the ends of each array.

// constant is the value of the array of a parameter, both bytes of a bfloat16:
// 3 or -6 of experts, which MXFP4 holds, else one of 16.
func constant(p graph.Param) byte {
	h := fnv.New32a()
	io.WriteString(h, p.Name)
	if p.Storage == graph.MXFP4 {
		return []byte{0x40, 0xc0}[h.Sum32()%2]
	}
	return byte(0x38 + h.Sum32()%16)
}

// ends is how many values of a sparse array are not zero, at its start, and as
// many at its end.
const ends = 32

// A leaf is an array of a container.
type leaf struct {
	param string // that it is, or is part of
	name  string // keys, with points between
	shape []int
	value byte // twice
}

func (l leaf) bytes() int64 {
	n := int64(2)
	for _, d := range l.shape {
		n *= int64(d)
	}
	return n
}

// leavesOf returns the arrays of a model as programs of a kind name them.
func leavesOf(c *gptoss.Config, kind string) ([]leaf, error) {
	g, err := gptoss.Build(c)
	if err != nil {
		return nil, err
	}
	var list []leaf
	if kind == "bf16" || kind == "bf16-hf" {
		layout := gptoss.Original
		if kind == "bf16-hf" {
			layout = gptoss.HuggingFace
		}
		parts, err := gptoss.Parts(g, c, layout)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if p.Scales {
				continue
			}
			l := leaf{p.Param.Name, p.Name, p.Shape, constant(p.Param)}
			if p.Param.Storage == graph.MXFP4 {
				l.name = strings.TrimSuffix(strings.TrimSuffix(l.name, ".blocks"), "_blocks")
				l.shape = slices.Clone([]int(p.Param.Shape))
				if layout == gptoss.HuggingFace {
					l.shape[1], l.shape[2] = l.shape[2], l.shape[1]
				}
			}
			list = append(list, l)
		}
		return list, nil
	}
	for _, p := range g.Params { // of gpt_oss.jax
		l := leaf{p.Name, strings.Replace(p.Name, "block.", "block_", 1), slices.Clone([]int(p.Shape)), constant(p)}
		switch {
		case p.Name == "embedding.weight":
			l.name = "embedding.embedding"
		case strings.HasSuffix(p.Name, ".weight"):
			l.name = strings.TrimSuffix(l.name, "weight") + "kernel"
			l.shape[0], l.shape[1] = l.shape[1], l.shape[0]
		}
		list = append(list, l)
	}
	return list, nil
}

// sizes writes a container of a kind.
func sizes(preset, kind, dir string) error {
	c, err := gptoss.Preset(preset)
	if err != nil {
		return err
	}
	leaves, err := leavesOf(c, kind)
	if err != nil {
		return err
	}
	layout := gptoss.Original
	if kind == "bf16-hf" {
		layout = gptoss.HuggingFace
	}
	config, err := c.Marshal(layout)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		return err
	}
	switch kind {
	case "plain", "plain3", "ocdbt", "ocdbt3":
		return sizedOrbax(filepath.Join(dir, "0", "state"), leaves, strings.HasPrefix(kind, "ocdbt"), strings.HasSuffix(kind, "3"))
	case "msgpack":
		return sparse(filepath.Join(dir, "model.msgpack"), func(w *sparseFile) { sizedMsgpack(w, leaves) })
	case "bf16", "bf16-hf":
		return sizedSafetensors(filepath.Join(dir, "model.safetensors"), leaves)
	}
	return fmt.Errorf("%s: no such kind", kind)
}

// sized looks whether a checkpoint has the values that sizes gave a container.
func sized(kind, dir string) error {
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	leaves, err := leavesOf(ck.Config, kind)
	if err != nil {
		return err
	}
	want := map[string]int{} // values that are not zero, by parameter
	for _, l := range leaves {
		n := int(l.bytes() / 2)
		if kind == "msgpack" || strings.HasPrefix(kind, "bf16") {
			n = min(n, 2*ends)
		}
		want[l.param] += n
	}
	count := 0
	for i, p := range ck.Graph.Params {
		v := math.Float32frombits(uint32(constant(p)) * 0x01010000)
		rows, columns := weight.Rows(p), weight.Columns(p)
		row, got := make([]float32, columns), 0
		for r := range rows {
			ck.Weights.Row32(i, r, row)
			for j, x := range row {
				switch x {
				case v:
					got++
				case 0:
				default:
					return fmt.Errorf("%s: row %d, column %d: %v, want %v or 0", p.Name, r, j, x, v)
				}
			}
		}
		if got == 0 || got != want[p.Name] {
			return fmt.Errorf("%s: %d values of %v, want %d", p.Name, got, v, want[p.Name])
		}
		count += rows * columns
	}
	fmt.Printf("%d values of %d parameters, as in the container\n", count, len(ck.Graph.Params))
	return nil
}

// sizedOrbax writes an item of Orbax, each array one chunk, as Orbax has it.
func sizedOrbax(item string, leaves []leaf, database, zarr3 bool) error {
	if err := os.MkdirAll(item, 0o777); err != nil {
		return err
	}
	tree, stored := map[string]any{}, map[string][]byte{}
	for _, l := range leaves {
		var keys []any
		for k := range strings.SplitSeq(l.name, ".") {
			keys = append(keys, map[string]any{"key": k, "key_type": 2})
		}
		tree[l.name] = map[string]any{"key_metadata": keys, "value_metadata": map[string]any{"value_type": "jax.Array"}}
		zeros := strings.Repeat("0.", len(l.shape))
		about, file, chunk := map[string]any{"zarr_format": 2, "shape": l.shape, "chunks": l.shape, "dtype": "bfloat16", "order": "C", "fill_value": nil,
			"filters": nil, "dimension_separator": ".", "compressor": map[string]any{"id": "zstd", "level": 1}}, ".zarray", zeros[:len(zeros)-1]
		data := repeated(l.bytes(), l.value)
		if zarr3 {
			little := map[string]any{"name": "bytes", "configuration": map[string]any{"endian": "little"}}
			about, file, chunk = map[string]any{"zarr_format": 3, "node_type": "array", "shape": l.shape, "data_type": "bfloat16", "fill_value": 0.0,
				"chunk_grid":         map[string]any{"name": "regular", "configuration": map[string]any{"chunk_shape": l.shape}},
				"chunk_key_encoding": map[string]any{"name": "default"},
				"codecs": []any{map[string]any{"name": "sharding_indexed", "configuration": map[string]any{
					"chunk_shape": l.shape, "index_codecs": []any{little, map[string]any{"name": "crc32c"}},
					"codecs": []any{little, map[string]any{"name": "zstd", "configuration": map[string]any{"level": 3, "checksum": false}}},
				}}}}, "zarr.json", "c/"+strings.ReplaceAll(chunk, ".", "/")
			index := binary.LittleEndian.AppendUint64(make([]byte, 8), uint64(len(data)))
			data = append(data, binary.LittleEndian.AppendUint32(index, crc32.Checksum(index, castagnoli()))...)
		}
		text, err := json.Marshal(about)
		if err != nil {
			return err
		}
		stored[l.name+"/"+file], stored[l.name+"/"+chunk] = text, data
	}
	text, err := json.Marshal(map[string]any{"use_ocdbt": database, "use_zarr3": zarr3, "tree_metadata": tree})
	if err != nil {
		return err
	}
	files := stored
	if database {
		files = ocdbt(stored)
	}
	files["_METADATA"] = text
	for name, data := range files {
		path := filepath.Join(item, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			return err
		}
	}
	return nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// repeated is a zstd frame of n equal bytes: blocks that say how often their byte
// comes (RFC 8878).
func repeated(n int64, value byte) []byte {
	const most = 128 << 10 // of a block; the window too
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}
	for {
		size := min(n, most)
		head := size<<3 | 1<<1
		if n -= size; n == 0 {
			head |= 1
		}
		if b = append(b, byte(head), byte(head>>8), byte(head>>16), value); n == 0 {
			return b
		}
	}
}

// ocdbt returns the files of a database of one leaf: metadata of arrays within
// it, chunks in a file of data, as Orbax's are.
func ocdbt(stored map[string][]byte) map[string][]byte {
	const dataFile, nodeFile = "d/data", "d/node"
	const within = 1024 // values of at most so many bytes lie in the node
	keys := slices.Sorted(maps.Keys(stored))
	blob := func(magic uint32, body []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, magic)
		b = binary.LittleEndian.AppendUint64(b, uint64(12+2+len(body)+4))
		b = append(append(b, 0, 0), body...)
		return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	}
	varints := func(b []byte, v ...int) []byte {
		for _, x := range v {
			b = binary.AppendUvarint(b, uint64(x))
		}
		return b
	}
	columns := func(b []byte, of func(key string) (int, bool)) []byte {
		for _, k := range keys {
			if v, ok := of(k); ok {
				b = varints(b, v)
			}
		}
		return b
	}
	inside := func(k string) bool { return len(stored[k]) <= within }
	var data []byte
	at := map[string]int{}
	for _, k := range keys {
		if !inside(k) {
			at[k] = len(data)
			data = append(data, stored[k]...)
		}
	}
	node := varints([]byte{0}, 1, len(dataFile), 0) // height, files
	node = varints(append(node, dataFile...), len(keys))
	node = columns(node, func(k string) (int, bool) { return 0, k != keys[0] }) // prefixes
	node = columns(node, func(k string) (int, bool) { return len(k), true })
	node = append(node, strings.Join(keys, "")...)
	node = columns(node, func(k string) (int, bool) { return len(stored[k]), true })
	for _, k := range keys {
		kind := byte(1)
		if inside(k) {
			kind = 0
		}
		node = append(node, kind)
	}
	node = columns(node, func(k string) (int, bool) { return 0, !inside(k) }) // files
	node = columns(node, func(k string) (int, bool) { return at[k], !inside(k) })
	for _, k := range keys {
		if inside(k) {
			node = append(node, stored[k]...)
		}
	}
	node = blob(0x0cdb20de, node)
	top := append(varints(make([]byte, 17), within, 100000000), 4)
	top = varints(top, 0, 1, len(nodeFile), 0)
	top = varints(append(top, nodeFile...), 1, 1)
	top = varints(append(top, 0), 0, 0, len(node), len(keys), 0, 0)
	top = varints(append(top, make([]byte, 8)...), 0)
	return map[string][]byte{dataFile: data, nodeFile: node, "manifest.ocdbt": blob(0x0cdb3a2a, top)}
}

// A sparseFile is written from front to back, with holes.
type sparseFile struct {
	f   *os.File
	w   *bufio.Writer
	err error
}

// sparse makes a file.
func sparse(path string, fill func(*sparseFile)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &sparseFile{f: f, w: bufio.NewWriter(f)}
	fill(w)
	return errors.Join(w.err, w.w.Flush(), f.Close())
}

func (w *sparseFile) write(b ...byte) {
	_, err := w.w.Write(b)
	w.err = errors.Join(w.err, err)
}

// hole goes n bytes further.
func (w *sparseFile) hole(n int64) {
	err := w.w.Flush()
	if err == nil {
		_, err = w.f.Seek(n, io.SeekCurrent)
	}
	w.err = errors.Join(w.err, err)
}

// array writes n bytes of l from offset on.
func (w *sparseFile) array(l leaf, offset, n int64) {
	end, size := offset+n, l.bytes()
	first, last := int64(2*ends), size-2*ends
	if last <= first {
		w.write(bytes.Repeat([]byte{l.value}, int(n))...)
		return
	}
	if offset < first {
		w.write(bytes.Repeat([]byte{l.value}, int(min(first, end)-offset))...)
	}
	if lo, hi := max(offset, first), min(end, last); lo < hi {
		w.hole(hi - lo)
	}
	if end > last {
		w.write(bytes.Repeat([]byte{l.value}, int(end-max(offset, last)))...)
	}
}

// sizedSafetensors writes one file of tensors.
func sizedSafetensors(path string, leaves []leaf) error {
	header, at := map[string]any{}, int64(0)
	for _, l := range leaves {
		header[l.name] = map[string]any{"dtype": "BF16", "shape": l.shape, "data_offsets": []int64{at, at + l.bytes()}}
		at += l.bytes()
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	text = append(text, bytes.Repeat([]byte{' '}, 7-(len(text)+7)%8)...)
	return sparse(path, func(w *sparseFile) {
		w.write(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))...)
		w.write(text...)
		for _, l := range leaves {
			w.array(l, 0, l.bytes())
		}
	})
}

// sizedMsgpack writes what flax.serialization.to_bytes does: maps of maps, arrays
// as extension 1, those of more than 2^30 bytes in chunks.
func sizedMsgpack(w *sparseFile, leaves []leaf) {
	const chunkMost = 1 << 30
	name := func(s string) { w.write(append([]byte{0xd9, byte(len(s))}, s...)...) }
	count := func(n int) { w.write(0xde, byte(n>>8), byte(n)) }
	size := func(kind byte, n int64) { w.write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))...) }
	array := func(l leaf, shape []int, offset, n int64) {
		const dtype = "bfloat16"
		size(0xc9, int64(1+1+5*len(shape)+2+len(dtype)+5)+n) // ext32
		w.write(1, 0x93, byte(0x90+len(shape)))
		for _, d := range shape {
			size(0xce, int64(d)) // uint32
		}
		name(dtype)
		size(0xc6, n) // bin32
		w.array(l, offset, n)
	}
	var tree func(list []leaf, depth int)
	tree = func(list []leaf, depth int) {
		groups, order := map[string][]leaf{}, []string(nil)
		for _, l := range list {
			key := strings.Split(l.name, ".")[depth]
			if groups[key] == nil {
				order = append(order, key)
			}
			groups[key] = append(groups[key], l)
		}
		count(len(order))
		for _, key := range order {
			name(key)
			group := groups[key]
			l := group[0]
			if len(strings.Split(l.name, ".")) > depth+1 {
				tree(group, depth+1)
				continue
			}
			n := l.bytes()
			if n <= chunkMost {
				array(l, l.shape, 0, n)
				continue
			}
			count(3)
			name("__msgpack_chunked_array__")
			w.write(0xc3)
			name("shape")
			count(len(l.shape))
			for i, d := range l.shape {
				name(strconv.Itoa(i))
				size(0xce, int64(d))
			}
			name("chunks")
			count(int((n + chunkMost - 1) / chunkMost))
			for i := int64(0); i*chunkMost < n; i++ {
				part := min(chunkMost, n-i*chunkMost)
				name(strconv.FormatInt(i, 10))
				array(l, []int{int(part / 2)}, i*chunkMost, part)
			}
		}
	}
	tree(leaves, 0)
}
