// Package parity compares traces: what one program computed at every stage of a
// model with what it may compute. It knows names and numbers, and nothing of the
// model.
//
// A trace is a safetensors file that anybody's program can write; [OpenTrace]
// reads it, [CreateTrace] writes one. [Judge] says whether every number of a
// stage lies within its bounds, [JudgeChoice] whether indices are those of the
// largest values. A [Report] holds the verdicts of several programs, put
// together once; WriteText and WriteJSON print it. docs/parity.md has the rule
// and the derivation of every bound.
package parity
