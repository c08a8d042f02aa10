package zarr

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"ossify/checkpoint"
	"ossify/convert/jsonobject"
	"ossify/internal/quote"
)

// version2 reads .zarray.
func (g *grid) version2(text []byte) error {
	o, err := jsonobject.Parse(text)
	if err != nil {
		return err
	}
	if err := o.Only("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters", "dimension_separator"); err != nil {
		return err
	}
	if err := o.Number("zarr_format", 2); err != nil {
		return err
	}
	if g.shape, err = o.Sizes("shape"); err != nil {
		return err
	}
	if g.chunk, err = o.Sizes("chunks"); err != nil {
		return err
	}
	var dtype, order string
	if err := errors.Join(o.Read("dtype", &dtype), o.Read("order", &order)); err != nil {
		return err
	}
	types := map[string]checkpoint.DType{
		"bfloat16": checkpoint.BF16, "<f4": checkpoint.F32, "<f2": checkpoint.F16, "<f8": checkpoint.F64, "|u1": checkpoint.U8,
		"|i1": checkpoint.I8, "<i4": checkpoint.I32, "<i8": checkpoint.I64, "|b1": checkpoint.BOOL,
	}
	if g.typ, err = typeOf(types, "dtype", dtype, "bfloat16 or a little-endian one"); err != nil {
		return err
	}
	if order != "C" {
		return fmt.Errorf("metadata: order %s, want \"C\"", quote.Value(order))
	}
	if f := o["filters"]; f != nil && string(f) != "null" && string(bytes.TrimSpace(f)) != "[]" {
		return errors.New("metadata: filters, want none")
	}
	if raw, ok := o["compressor"]; !ok {
		return errors.New("metadata: compressor is missing")
	} else if string(raw) != "null" {
		var c jsonobject.Object
		var id string
		if err := errors.Join(o.Read("compressor", &c), c.Read("id", &id)); err != nil {
			return err
		}
		if id != "zstd" {
			return fmt.Errorf("metadata: compressor %s, want zstd or none", quote.Value(id))
		}
		g.zstd = true
	}
	sep, err := separator(o, "dimension_separator", ".")
	if err != nil {
		return err
	}
	g.key = func(at []int) string {
		if len(at) == 0 {
			return g.name + "/0"
		}
		return g.name + "/" + joined(at, sep)
	}
	return nil
}

// separator reads what stands between the numbers in a chunk's key.
func separator(o jsonobject.Object, name, byDefault string) (string, error) {
	sep := byDefault
	if o[name] == nil {
		return sep, nil
	}
	if err := o.Read(name, &sep); err != nil {
		return "", err
	}
	if sep != "." && sep != "/" {
		return "", fmt.Errorf("metadata: %s %s, want . or /", name, quote.Value(sep))
	}
	return sep, nil
}

// A named is an extension of Zarr 3: its name, and what it is told.
type named struct {
	Name          string            `json:"name"`
	Configuration jsonobject.Object `json:"configuration"`
}

// typeOf returns what a name of a type stands for; key is where it is.
func typeOf(types map[string]checkpoint.DType, key, name, want string) (checkpoint.DType, error) {
	t, ok := types[name]
	if !ok {
		return t, fmt.Errorf("metadata: %s %s, want %s", key, quote.Value(name), want)
	}
	return t, nil
}

// version3 reads zarr.json.
func (g *grid) version3(text []byte) error {
	o, err := jsonobject.Parse(text)
	if err != nil {
		return err
	}
	if err := o.Only("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "attributes", "dimension_names"); err != nil {
		return err
	}
	var kind, dtype string
	var layout, keys named
	if err := errors.Join(o.Number("zarr_format", 3), o.Read("node_type", &kind), o.Read("data_type", &dtype),
		o.Read("chunk_grid", &layout), o.Read("chunk_key_encoding", &keys)); err != nil {
		return err
	}
	if g.shape, err = o.Sizes("shape"); err != nil {
		return err
	}
	types := map[string]checkpoint.DType{
		"bfloat16": checkpoint.BF16, "float32": checkpoint.F32, "float16": checkpoint.F16, "float64": checkpoint.F64, "uint8": checkpoint.U8,
		"int8": checkpoint.I8, "int32": checkpoint.I32, "int64": checkpoint.I64, "bool": checkpoint.BOOL,
	}
	if g.typ, err = typeOf(types, "data_type", dtype, "bfloat16 or one that safetensors have"); err != nil {
		return err
	}
	if kind != "array" || layout.Name != "regular" || keys.Name != "default" {
		return fmt.Errorf("metadata: %s, %s grid, %s keys; want an array, regular, default", quote.Start(kind), quote.Start(layout.Name), quote.Start(keys.Name))
	}
	if g.chunk, err = layout.Configuration.Sizes("chunk_shape"); err != nil {
		return err
	}
	sep, err := separator(keys.Configuration, "separator", "/")
	if err != nil {
		return err
	}
	g.key = func(at []int) string {
		if len(at) == 0 {
			return g.name + "/c"
		}
		return g.name + "/c" + sep + joined(at, sep)
	}
	var codecs []named
	if err := o.Read("codecs", &codecs); err != nil {
		return err
	}
	if len(codecs) == 1 && codecs[0].Name == "sharding_indexed" {
		return g.sharding(codecs[0].Configuration)
	}
	return g.codecs(codecs)
}

// sharding reads the configuration of the codec that puts chunks into shards.
func (g *grid) sharding(o jsonobject.Object) error {
	if err := o.Only("chunk_shape", "codecs", "index_codecs", "index_location"); err != nil {
		return err
	}
	inner, err := o.Sizes("chunk_shape")
	if err != nil {
		return err
	}
	var codecs, index []named
	if err := errors.Join(o.Read("codecs", &codecs), o.Read("index_codecs", &index)); err != nil {
		return err
	}
	if len(inner) != len(g.chunk) {
		return fmt.Errorf("metadata: chunks of %d dimensions in shards of %d", len(inner), len(g.chunk))
	}
	n := 1
	g.shard = make([]int, len(inner))
	for i, d := range inner {
		if d < 1 || g.chunk[i] < 1 || g.chunk[i]%d != 0 {
			return fmt.Errorf("metadata: chunks of %v in shards of %v, want a whole number of them", inner, g.chunk)
		}
		g.shard[i] = g.chunk[i] / d
		if g.shard[i] > mostChunks/n {
			return fmt.Errorf("metadata: more than %d chunks in a shard", mostChunks)
		}
		n *= g.shard[i]
	}
	g.chunk = inner
	if len(index) != 2 || !index[0].little() || index[1].Name != "crc32c" {
		return errors.New("metadata: index_codecs, want bytes, little-endian, and crc32c")
	}
	if o["index_location"] != nil {
		var at string
		if err := o.Read("index_location", &at); err != nil {
			return err
		}
		if at != "start" && at != "end" {
			return fmt.Errorf("metadata: index_location %s, want start or end", quote.Value(at))
		}
		g.inFront = at == "start"
	}
	return g.codecs(codecs)
}

// codecs reads those of a chunk.
func (g *grid) codecs(list []named) error {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.Name
	}
	if len(list) == 0 || len(list) > 2 || !list[0].little() || len(list) == 2 && list[1].Name != "zstd" {
		return fmt.Errorf("metadata: codecs %s, want bytes, little-endian, and zstd or nothing after it", quote.Value(strings.Join(names, " ")))
	}
	g.zstd = len(list) == 2
	return nil
}

// little reports whether a codec is that of little-endian bytes. Types of one
// byte need no order.
func (c named) little() bool {
	var endian string
	return c.Name == "bytes" && (c.Configuration["endian"] == nil || c.Configuration.Read("endian", &endian) == nil && endian == "little")
}
