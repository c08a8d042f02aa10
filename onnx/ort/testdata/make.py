"""Writes the models of this folder. pip install onnx==1.23.2; python make.py"""

import onnx
from onnx import TensorProto as T, helper as h


def save(name, nodes, inputs, outputs, initializers=()):
    graph = h.make_graph(nodes, name, inputs, outputs, initializers)
    model = h.make_model(graph, ir_version=10, opset_imports=[h.make_opsetid("", 21)], producer_name="make.py")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, name + ".onnx")


value = h.make_tensor_value_info

# One tensor of each type, from input to output.
types = {
    "bool": T.BOOL, "uint8": T.UINT8, "int8": T.INT8, "uint16": T.UINT16, "int16": T.INT16, "float16": T.FLOAT16,
    "bfloat16": T.BFLOAT16, "int32": T.INT32, "uint32": T.UINT32, "float": T.FLOAT, "double": T.DOUBLE,
    "int64": T.INT64, "uint64": T.UINT64,
}
save(
    "types",
    [h.make_node("Identity", ["in." + k], ["out." + k]) for k in types],
    [value("in." + k, t, ["n", 2]) for k, t in types.items()],
    [value("out." + k, t, ["n", 2]) for k, t in types.items()],
)

# A language model of float16, with the inputs of transformers.js: the logits of
# token t are its id, its position and its mask; the cache takes the id.
def cast(x, to, name):
    return h.make_node("Cast", [x], [name], to=to)


def column(x, name):
    return [cast(x, T.FLOAT16, name + ".f"), h.make_node("Unsqueeze", [name + ".f", "two"], [name])]


save(
    "decoder",
    column("input_ids", "id") + column("position_ids", "at") + [
        h.make_node("Neg", ["num_logits_to_keep"], ["from"]),
        h.make_node("Unsqueeze", ["from", "zero"], ["from1"]),
        h.make_node("Concat", ["id", "at"], ["all"], axis=2),
        h.make_node("Slice", ["all", "from1", "end", "one"], ["logits"]),
        h.make_node("Unsqueeze", ["id.f", "cacheaxes"], ["entry"]),
        h.make_node("Concat", ["past_key_values.0.key", "entry"], ["present.0.key"], axis=2),
        h.make_node("Neg", ["entry"], ["minus"]),
        h.make_node("Concat", ["past_key_values.0.value", "minus"], ["present.0.value"], axis=2),
        # The mask is read, so that it stays an input.
        h.make_node("ReduceSum", ["attention_mask", "one"], ["seen"], keepdims=1),
    ],
    [
        value("input_ids", T.INT64, ["batch_size", "sequence_length"]),
        value("attention_mask", T.INT64, ["batch_size", "total_sequence_length"]),
        value("position_ids", T.INT64, ["batch_size", "sequence_length"]),
        value("num_logits_to_keep", T.INT64, []),
        value("past_key_values.0.key", T.FLOAT16, ["batch_size", 1, "past_sequence_length", 1]),
        value("past_key_values.0.value", T.FLOAT16, ["batch_size", 1, "past_sequence_length", 1]),
    ],
    [
        value("logits", T.FLOAT16, ["batch_size", "num_logits_to_keep", 2]),
        value("present.0.key", T.FLOAT16, ["batch_size", 1, "total_sequence_length", 1]),
        value("present.0.value", T.FLOAT16, ["batch_size", 1, "total_sequence_length", 1]),
        value("seen", T.INT64, ["batch_size", 1]),
    ],
    [
        h.make_tensor("zero", T.INT64, [1], [0]), h.make_tensor("one", T.INT64, [1], [1]), h.make_tensor("two", T.INT64, [1], [2]),
        h.make_tensor("end", T.INT64, [1], [2**62]), h.make_tensor("cacheaxes", T.INT64, [2], [1, 3]),
    ],
)

# Fails while it runs, if the shape does not fit.
save(
    "reshape",
    [h.make_node("Reshape", ["x", "shape"], ["y"])],
    [value("x", T.FLOAT, ["n"]), value("shape", T.INT64, [2])],
    [value("y", T.FLOAT, ["a", "b"])],
)
