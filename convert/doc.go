// Package convert writes checkpoints that other tools stored in containers of
// their own as checkpoints in the official form: Orbax as orbax-checkpoint writes
// it, Flax's msgpack, and safetensors whose experts were decoded to bfloat16.
// Nobody else in this house learns of those containers.
//
// A conversion is exact or fails. Experts that were decoded become MXFP4 again
// block by block; a block that no scale holds exactly is an error that names it.
// What a container does not hold is an error too: no chunk is ever filled in.
//
// It runs in bounded memory, whatever the size of tensors and chunks: arrays are
// read from front to back, several times where their rows have to become
// columns. Sub-rooms read the containers: msgpack, orbax, and what Orbax is made
// of, zarr (arrays in chunks), ocdbt (a database of them) and frame (zstd).
package convert
