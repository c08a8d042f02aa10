"""Writes python.safetensors with the safetensors package; see README.md."""

import torch
from safetensors.torch import save_file

# Element i of each tensor is i - 2, as far as its type can hold that.
tensors = {
    "block.0.attn.qkv.weight": torch.arange(6).reshape(2, 3).sub(2).to(torch.bfloat16),
    "block.10.mlp.mlp1_weight.blocks": torch.arange(2, 34).reshape(1, 2, 1, 16).sub(2).to(torch.uint8),
    "block.2.attn.sinks": torch.arange(5).sub(2).to(torch.bfloat16),
    "bool": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 7, dtype=torch.float64),
    "f16": torch.arange(3).sub(2).to(torch.float16),
    "f32": torch.arange(4).sub(2).to(torch.float32).reshape(4, 1),
    "f64": torch.arange(3).sub(2).to(torch.float64),
    "i16": torch.arange(3).sub(2).to(torch.int16),
    "i32": torch.arange(3).sub(2).to(torch.int32),
    "i64": torch.arange(3).sub(2).to(torch.int64),
    "i8": torch.arange(5).sub(2).to(torch.int8),
    "scalar \"é\"": torch.tensor(-2, dtype=torch.int64),
}
save_file(tensors, "python.safetensors", metadata={"format": "pt"})
