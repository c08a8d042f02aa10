// Package onnx writes a recorded model as ONNX, and reads what others wrote.
//
// # Writing
//
// [Export] lowers a graph (package lower), and writes model.onnx. Weights are
// external data: in place, in the checkpoint's own files, or in a data file
// beside the model (data.go). No byte of a weight is changed: bfloat16
// matrices are converted in the graph, and MXFP4 experts are decoded there, a
// strip of one at a time, when a token is routed to them.
//
// The model's interface is the one that onnxruntime-genai, optimum and
// transformers.js share:
//
//	input_ids               int64 [batch, seq]
//	attention_mask          int64 [batch, total]             1 is a token, 0 padding before the first one; total is past + seq
//	past_key_values.N.key   float [batch, heads, past, dim]  N counts Attend stages; and .value
//	logits                  float [batch, seq, vocab]        or [batch, 1, vocab]
//	present.N.key           float [batch, heads, total, dim] and .value
//
// With [Options.Trace] every stage is an output too, under its own path: the
// value of block.0.mlp.mlp1 is the output block.0.mlp.mlp1, [batch, seq, ..].
// Outputs after logits stand in the order of the graph's nodes, a present.N
// pair after its Attend.
//
// The graph may be any, a faulty one too, and the sources may be bytes in
// memory: tensors that name no file are written from their Data.
//
// # Reading
//
// [Read] opens a model of anyone's and checks it; [Model.Summary] tells what
// is in it. Model files come from strangers: sizes, nesting and the places of
// external data are checked, and nothing outside of the model's folder is
// looked at.
//
// # Rooms
//
// wire is the format: messages, and their bytes. build makes nodes of them,
// lower makes the nodes of a graph for a target. Nothing outside of onnx knows
// these types. ort runs models, and knows nothing of the rest.
package onnx
