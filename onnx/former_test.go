package onnx

import "testing"

// Names of data files are those that exports have had, and no others: what has
// such a name and stands in a former model's list may be removed.
func TestDataNames(t *testing.T) {
	for name, want := range map[string]bool{
		"model.onnx.data": true, "model.onnx_data": true, "model.onnx_data_1": true, "model.onnx_data_120": true,
		"onnx/model.onnx_data": true, "1/model.onnx_data": true, "1/model.onnx.data": true, "onnx/model.onnx_data_2": true,
		"": false, "model.onnx": false, "model.onnx_data_": false, "model.onnx_data_x": false, "model.onnx_data_1x": false,
		"model.onnx_data_-1": false, "model.onnx_data_1\n": false, "model.onnx.data_1": false, "model.onnx_data/1": false,
		"onnx/1/model.onnx_data": false, "1/1/model.onnx_data": false, "2/model.onnx_data": false, "../model.onnx_data": false,
		"/model.onnx_data": false, "onnx/": false, "xmodel.onnx_data": false, "model.onnx_data.bak": false, "MODEL.ONNX_DATA": false,
	} {
		if got := isData(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
