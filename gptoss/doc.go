// Package gptoss joins the rooms of this house: it knows what a gpt-oss
// checkpoint is, and hands its model to those who run, check or write it.
//
// # From a byte on disk to logits
//
// [OpenCheckpoint] reads config.json, of OpenAI's dialect or Hugging Face's,
// into one [Config]. [Build] records the model that it describes: running
// model.go computes nothing, it writes down a [ossify/graph.Graph] of about
// thirty operations a block. Package checkpoint maps the safetensors files and
// proves their headers; [Bind] gives every parameter of the graph its tensors,
// by the tables of names.go, and reports whatever is missing, different or left
// over. No weight has been read so far, and none is ever copied.
//
// The graph is data, and several read it:
//
//   - package oracle evaluates it in float64, one obvious loop an operation:
//     the definition;
//   - package engine runs it on all cores, with a key/value cache, rounding as
//     PyTorch does in bfloat16 or in float32 ([Checkpoint.Engine]);
//   - package onnx lowers it to ONNX, the weights left where they are.
//
// # Names
//
// A stage, the tensor it yields, the weights it reads and its golden carry one
// dotted path, which is the path of the module in gpt_oss/torch/model.py:
// block.7.attn.qkv yields the queries, keys and values of block 7 and reads
// block.7.attn.qkv.weight. That is what lets every stage be compared: PyTorch,
// through tools/reference, writes a trace under the same names, package parity
// compares two traces, package verify drives a comparison, and package fault
// holds the bugs that a comparison must catch.
package gptoss
