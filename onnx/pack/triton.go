package pack

import (
	"fmt"
	"strings"

	"ossify/onnx"
	"ossify/onnx/wire"
)

// tritonTypes are the names that Triton's model_config.proto has for types of
// elements.
var tritonTypes = map[wire.DataType]string{wire.Float: "TYPE_FP32", wire.Float16: "TYPE_FP16", wire.Bfloat16: "TYPE_BF16", wire.Int64: "TYPE_INT64", wire.Int32: "TYPE_INT32"}

// tritonConfig returns config.pbtxt: a ModelConfig of Triton's
// model_config.proto as text. The batch is a dimension like others, since rows
// of one batch share their lengths: Triton must not put requests together. The
// name is the folder's.
func tritonConfig(m onnx.Made, library string) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Written by ossify export --for triton. A call without a past has caches of no positions.\n" +
		"backend: \"onnxruntime\"\ndefault_model_filename: \"model.onnx\"\nmax_batch_size: 0\n")
	for _, side := range []struct {
		name   string
		values []*wire.Value
	}{{"input", m.Inputs}, {"output", m.Outputs}} {
		for _, v := range side.values {
			if v.Type == nil || v.Type.Tensor == nil || v.Type.Tensor.Shape == nil || tritonTypes[v.Type.Tensor.Elem] == "" {
				return nil, fmt.Errorf("pack: %s: no tensor whose type Triton knows", v.Name)
			}
			var dims []string
			for _, d := range v.Type.Tensor.Shape.Dims {
				dim := "-1"
				if d.Sized {
					dim = fmt.Sprint(d.Size)
				}
				dims = append(dims, dim)
			}
			fmt.Fprintf(&b, "%s { name: %q data_type: %s dims: [ %s ] }\n", side.name, v.Name, tritonTypes[v.Type.Tensor.Elem], strings.Join(dims, ", "))
		}
	}
	b.WriteString("instance_group { count: 1 kind: KIND_CPU }\n")
	if library != "" {
		// Of printable text a quoted string of Go's is one of protobuf's.
		fmt.Fprintf(&b, "model_operations { op_library_filename: %q }\n", library)
	}
	return []byte(b.String()), nil
}
