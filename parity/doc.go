// Package parity compares traces: what one program computed at every stage of a
// model with what another did. It knows names and numbers, and nothing of the
// model.
//
// A trace is a safetensors file that anybody's program can write; [OpenTrace]
// reads it, [CreateTrace] writes one. [Measure] and [CompareRouting] say how
// far two stages are apart, [Tolerances] what that means, and a [Report] prints
// it. docs/parity.md derives the tolerances.
package parity
