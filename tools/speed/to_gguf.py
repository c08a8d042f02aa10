#!/usr/bin/env python3
"""Writes a gpt-oss checkpoint in its original layout as GGUF, the file that llama.cpp reads.

The values stay what they are: MXFP4 blocks are the same bytes in GGML's order, bfloat16 matrices
are copied, what is small (norms, biases, sinks, the router) becomes float32. With --dense q8_0
attention, embedding and unembedding are quantised to Q8_0, as the GGUFs that people use have them.

It holds no vocabulary: what reads it here gives ids and takes logits. Names and keys are those of
GGUF's architecture gpt-oss. One tensor at a time is in memory. Linux, little-endian.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from tensors import float32, read


class Checkpoint:
    """The tensors of a folder of safetensors files."""

    def __init__(self, folder):
        self.tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            self.tensors.update(read(path))

    def __call__(self, name, *shape):
        """The tensor, of the shape that the configuration asks for."""
        if name not in self.tensors:
            raise SystemExit(f"to_gguf: {name}: not in the checkpoint, want its original layout")
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise SystemExit(f"to_gguf: {name}: shape {list(tensor.shape)}, want {list(shape)}")
        return tensor


def mxfp4(blocks, scales):
    """GGML's blocks, [..., 17 × groups] bytes: a scale, then 16 bytes of which byte j holds elements
    j (low) and j+16 (high). The checkpoint's byte j holds elements 2j and 2j+1."""
    out = np.empty((*scales.shape, 17), np.uint8)
    first, last = blocks[..., :8], blocks[..., 8:]
    out[..., 0] = scales
    out[..., 1::2] = (first & 15) | (last << 4)
    out[..., 2::2] = (first >> 4) | (last & 240)
    return out.reshape(*scales.shape[:-1], -1)


def q8_0(bf16):
    """Rows in Q8_0, a few at a time: the embedding in float32 would take 2.3 GB."""
    step = 4096
    return np.concatenate([gguf.quants.quantize(float32(bf16[i : i + step]), Kind.Q8_0) for i in range(0, len(bf16), step)])


def tensors(weight, c, layers, dense):
    """(name, shape, type, a function that gives the data) of every tensor, in order."""
    width, inner, experts, vocab = c["hidden_size"], c["intermediate_size"], c["num_experts"], c["vocab_size"]
    size = c["head_dim"]
    queries, keys = c["num_attention_heads"] * size, c["num_key_value_heads"] * size

    def small(name, *shape):
        return shape, Kind.F32, lambda: float32(weight(name, *shape))

    def part(name, of, first, n):
        """Values first to first + n of a vector."""
        return (n,), Kind.F32, lambda: float32(weight(name, of)[first : first + n])

    def matrix(name, rows, columns, first=0, n=None):
        """Rows first to first + n of a bfloat16 matrix of rows."""
        n = n or rows
        bits = lambda: weight(name, rows, columns)[first : first + n]
        return (n, columns), Kind[dense.upper()], bits if dense == "bf16" else lambda: q8_0(bits())

    def experts_of(name, rows, columns, every=slice(None)):
        """MXFP4 matrices of all experts; every says which of their rows."""
        n = len(range(rows)[every])

        def data():
            blocks = weight(name + ".blocks", experts, rows, columns // 32, 16)
            scales = weight(name + ".scales", experts, rows, columns // 32)
            return mxfp4(blocks[:, every], scales[:, every])

        return (experts, n, columns), Kind.MXFP4, data

    def biases_of(name, rows, every=slice(None)):
        n = len(range(rows)[every])
        return (experts, n), Kind.F32, lambda: float32(weight(name, experts, rows)[:, every])

    gate, up = slice(0, None, 2), slice(1, None, 2)  # the first matrix has both, row by row
    yield "token_embd.weight", *matrix("embedding.weight", vocab, width)
    for n in range(layers):
        a, m, b = f"block.{n}.attn.", f"block.{n}.mlp.", f"blk.{n}."
        rows = queries + 2 * keys
        yield b + "attn_norm.weight", *small(a + "norm.scale", width)
        for which, first, count in (("q", 0, queries), ("k", queries, keys), ("v", queries + keys, keys)):
            yield f"{b}attn_{which}.weight", *matrix(a + "qkv.weight", rows, width, first, count)
            yield f"{b}attn_{which}.bias", *part(a + "qkv.bias", rows, first, count)
        yield b + "attn_output.weight", *matrix(a + "out.weight", width, queries)
        yield b + "attn_output.bias", *small(a + "out.bias", width)
        yield b + "attn_sinks.weight", *small(a + "sinks", c["num_attention_heads"])
        yield b + "post_attention_norm.weight", *small(m + "norm.scale", width)
        yield b + "ffn_gate_inp.weight", *small(m + "gate.weight", experts, width)
        yield b + "ffn_gate_inp.bias", *small(m + "gate.bias", experts)
        yield b + "ffn_gate_exps.weight", *experts_of(m + "mlp1_weight", 2 * inner, width, gate)
        yield b + "ffn_gate_exps.bias", *biases_of(m + "mlp1_bias", 2 * inner, gate)
        yield b + "ffn_up_exps.weight", *experts_of(m + "mlp1_weight", 2 * inner, width, up)
        yield b + "ffn_up_exps.bias", *biases_of(m + "mlp1_bias", 2 * inner, up)
        yield b + "ffn_down_exps.weight", *experts_of(m + "mlp2_weight", width, inner)
        yield b + "ffn_down_exps.bias", *biases_of(m + "mlp2_bias", width)
    yield "output_norm.weight", *small("norm.scale", width)
    yield "output.weight", *matrix("unembedding.weight", vocab, width)


def keys(w, c, layers):
    """What llama.cpp asks of the architecture."""
    w.add_name("gpt-oss")
    w.add_block_count(layers)
    w.add_context_length(int(c["initial_context_length"] * c["rope_scaling_factor"]))
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_expert_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    w.add_sliding_window(c["sliding_window"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_expert_count(c["num_experts"])
    w.add_expert_used_count(c["experts_per_token"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(c["rope_scaling_factor"])
    w.add_rope_scaling_orig_ctx_len(c["initial_context_length"])
    w.add_rope_scaling_yarn_beta_fast(c["rope_ntk_beta"])
    w.add_rope_scaling_yarn_beta_slow(c["rope_ntk_alpha"])
    w.add_tokenizer_model("none")
    w.add_vocab_size(c["vocab_size"])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)


def bytes_of(shape, kind):
    values, size = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // values * size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder of config.json and *.safetensors")
    parser.add_argument("output", type=Path)
    parser.add_argument("--layers", type=int, help="only the first ones")
    parser.add_argument("--dense", choices=["bf16", "q8_0"], default="bf16")
    args = parser.parse_args()

    c = json.loads((args.checkpoint / "config.json").read_text())
    if "num_experts" not in c:
        raise SystemExit("to_gguf: config.json: no num_experts, want a checkpoint in its original layout")
    layers = args.layers or c["num_hidden_layers"]
    if not 1 <= layers <= c["num_hidden_layers"]:
        raise SystemExit(f"to_gguf: --layers {layers}, want 1 to {c['num_hidden_layers']}")
    for key in ("hidden_size", "intermediate_size"):
        if c[key] % 32:
            raise SystemExit(f"to_gguf: config.json: {key} {c[key]}, want a multiple of 32: GGML's blocks do not cross rows")

    todo = list(tensors(Checkpoint(args.checkpoint), c, layers, args.dense))
    part = args.output.with_name(args.output.name + ".part")
    try:
        w = gguf.GGUFWriter(part, "gpt-oss")
        keys(w, c, layers)
        for name, shape, kind, _ in todo:
            w.add_tensor_info(name, shape, np.dtype(np.float32), bytes_of(shape, kind), raw_dtype=kind)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_ti_data_to_file()
        for n, (name, _, kind, data) in enumerate(todo):
            w.write_tensor_data(np.ascontiguousarray(data()))
            if sys.stderr.isatty():
                print(f"\r{n + 1} of {len(todo)} tensors", end="", file=sys.stderr)
        w.close()
        os.replace(part, args.output)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
