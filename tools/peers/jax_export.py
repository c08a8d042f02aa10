#!/usr/bin/env python3
"""Writes a checkpoint as ONNX with jax2onnx: the loader of its gpt-oss example, then its exporter.

jax2onnx has no command for this. The example's loader reads the original
layout. The model has no cache and the length of its input is fixed.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax2onnx import to_onnx
from jax2onnx.plugins.examples.eqx.gpt_oss import load_pretrained_gpt_oss

checkpoint, output, kind, length = sys.argv[1:]
Path(output).parent.mkdir(parents=True, exist_ok=True)
model = load_pretrained_gpt_oss(checkpoint, param_dtype=jnp.dtype(kind))
print("loaded", flush=True)
to_onnx(
    model,
    [jax.ShapeDtypeStruct((1, int(length)), jnp.int32)],
    return_mode="file",
    output_path=output,
    input_names=["input_ids"],
    output_names=["logits"],
)
