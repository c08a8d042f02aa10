// Package goldens embeds PyTorch's traces of the tiny checkpoint of seed 1, for
// ossify demo. README.md in the folder above has their provenance.
package goldens

import "embed"

// Tiny holds tiny-bf16.safetensors and tiny-f32.safetensors.
//
//go:embed tiny-bf16.safetensors tiny-f32.safetensors
var Tiny embed.FS
