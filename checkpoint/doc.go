// Package checkpoint reads and writes safetensors files without copying them:
// a file is mapped into memory and its tensors are views of the map.
//
// Files come from strangers. Everything a header or a shard index says is
// checked once, when the file is opened: sizes in checked arithmetic, order,
// gaps, overlaps, duplicates, names that leave the folder. What OpenFile and
// Open return cannot be invalid, and nobody needs to check it again. A file
// that breaks the format is a FormatError; one that keeps it but uses what is
// not implemented here is an UnsupportedError.
//
// A mapped file must not shrink while it is open: reading a page that no
// longer exists raises SIGBUS, which ends a Go program unless it is caught as
// internal/mapped does. Writers here never rewrite a file in place (they write a
// temporary file and rename it over the old one), and a map of a file that was
// renamed over or removed stays valid.
//
// The format: https://huggingface.co/docs/safetensors/index#format. Eight
// bytes with the header's length, a JSON header, then the tensors' bytes, all
// little-endian.
package checkpoint
