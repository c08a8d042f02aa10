"""Store a checkpoint as other tools do, by those tools.

    write.py CKPT OUT KIND...

CKPT is a checkpoint in the original layout. OUT/KIND is made for each kind:

    ocdbt, ocdbt3, plain, plain3   Orbax: a database or a folder an array, Zarr 2 or 3
    chunks, chunks3                Orbax, in many chunks, by TensorStore's own spec
    msgpack, msgpack-chunks        Flax; in the second, arrays of more than 4 kB are split
    bf16, bf16-hf                  safetensors with experts in bfloat16: of gpt_oss.torch, of transformers

The trees are those of gpt_oss.jax (openai/gpt-oss, pull request 217).
"""

import json
import os
import shutil
import struct
import sys

import ml_dtypes
import numpy as np

BF16 = np.dtype(ml_dtypes.bfloat16)
TYPES = {"BF16": BF16, "U8": np.dtype("u1")}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])


def read(folder):
    """The tensors of the one file of a checkpoint, mapped."""
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(n))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", offset=8 + n)
    out = {}
    for name, t in header.items():
        lo, hi = t["data_offsets"]
        out[name] = data[lo:hi].view(TYPES[t["dtype"]]).reshape(t["shape"])
    return out


def write(folder, tensors):
    """A safetensors file."""
    header, at = {}, 0
    for name, t in tensors.items():
        kind = {d: k for k, d in TYPES.items()}[t.dtype]
        header[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(np.ascontiguousarray(t).tobytes())


def decode(blocks, scales):
    """MXFP4 as bfloat16: exact."""
    low, high = E2M1[blocks & 15], E2M1[blocks >> 4]
    values = np.stack([low, high], -1).reshape(*scales.shape, 32)
    with np.errstate(under="ignore"):
        values = np.ldexp(values, scales.astype(np.int32)[..., None] - 127)
    return values.astype(BF16).reshape(*scales.shape[:-1], -1)


def decoded(tensors):
    """All tensors in bfloat16, under the names of gpt_oss.torch."""
    out = {}
    for name, t in tensors.items():
        if name.endswith(".blocks"):
            name = name.removesuffix(".blocks")
            t = decode(t, tensors[name + ".scales"])
        elif name.endswith(".scales"):
            continue
        out[name] = np.ascontiguousarray(t)
    return out


def tree(tensors):
    """The tree of gpt_oss.jax."""
    out = {}
    for name, t in decoded(tensors).items():
        keys = name.split(".")
        if keys[0] == "block":
            keys = [f"block_{keys[1]}"] + keys[2:]
        if keys[-1] == "weight":
            kernel = keys[0] != "embedding"
            keys[-1] = "kernel" if kernel else "embedding"
            t = np.ascontiguousarray(t.T) if kernel else t
        at = out
        for k in keys[:-1]:
            at = at.setdefault(k, {})
        at[keys[-1]] = t
    return out


def hugging_face(tensors):
    """The names of transformers, experts as it dequantises them."""
    c = config
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    local = {
        "attn.norm.scale": "input_layernorm.weight", "mlp.norm.scale": "post_attention_layernorm.weight",
        "attn.sinks": "self_attn.sinks", "attn.out.weight": "self_attn.o_proj.weight", "attn.out.bias": "self_attn.o_proj.bias",
        "mlp.gate.weight": "mlp.router.weight", "mlp.gate.bias": "mlp.router.bias",
        "mlp.mlp1_weight": "mlp.experts.gate_up_proj", "mlp.mlp1_bias": "mlp.experts.gate_up_proj_bias",
        "mlp.mlp2_weight": "mlp.experts.down_proj", "mlp.mlp2_bias": "mlp.experts.down_proj_bias",
    }
    top = {"embedding.weight": "model.embed_tokens.weight", "norm.scale": "model.norm.weight", "unembedding.weight": "lm_head.weight"}
    out = {}
    for name, t in decoded(tensors).items():
        if name in top:
            out[top[name]] = t
            continue
        _, n, rest = name.split(".", 2)
        prefix = f"model.layers.{n}."
        if rest.startswith("attn.qkv."):
            kind = rest.rsplit(".", 1)[1]
            for part, rows in (("q", t[:q]), ("k", t[q:q + kv]), ("v", t[q + kv:])):
                out[f"{prefix}self_attn.{part}_proj.{kind}"] = rows
            continue
        if rest in ("mlp.mlp1_weight", "mlp.mlp2_weight"):
            t = np.ascontiguousarray(t.transpose(0, 2, 1))
        out[prefix + local[rest]] = t
    return out


def orbax(folder, tensors, ocdbt, zarr3, chunk=None):
    import jax.numpy as jnp
    import jax.tree_util
    import orbax.checkpoint as ocp

    values = jax.tree_util.tree_map(jnp.asarray, tree(tensors))
    kwargs = {}
    if chunk:
        kwargs["save_args"] = jax.tree_util.tree_map(lambda _: ocp.SaveArgs(chunk_byte_size=chunk), values)
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
    with ocp.Checkpointer(handler) as saver:
        saver.save(os.path.abspath(os.path.join(folder, "0", "state")), ocp.args.PyTreeSave(values, **kwargs))


def msgpack(folder, tensors, chunk=None):
    from flax import serialization

    if chunk:
        serialization.MAX_CHUNK_SIZE = chunk
    os.makedirs(folder)
    with open(os.path.join(folder, "model.msgpack"), "wb") as f:
        f.write(serialization.to_bytes(tree(tensors)))


def main():
    global config
    source, out, *kinds = sys.argv[1:]
    with open(os.path.join(source, "config.json")) as f:
        config = json.load(f)
    tensors = read(source)
    for kind in kinds:
        folder = os.path.join(out, kind)
        shutil.rmtree(folder, ignore_errors=True)
        beside, text = "config.json", config
        match kind:
            case "ocdbt" | "ocdbt3" | "plain" | "plain3":
                orbax(folder, tensors, kind.startswith("ocdbt"), kind.endswith("3"))
            case "chunks" | "chunks3":
                orbax(folder, tensors, True, kind.endswith("3"), 5000)
            case "msgpack":
                msgpack(folder, tensors)
                beside = "model.config.json"
            case "msgpack-chunks":
                msgpack(folder, tensors, 4096)
            case "bf16":
                write(folder, decoded(tensors))
            case "bf16-hf":
                write(folder, hugging_face(tensors))
                # As transformers has it once experts are dequantised.
                text = {
                    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "rms_norm_eps": 1e-5,
                    "num_local_experts": config["num_experts"], "num_experts_per_tok": config["experts_per_token"],
                    "max_position_embeddings": int(config["initial_context_length"] * config["rope_scaling_factor"]),
                    "rope_scaling": {
                        "rope_type": "yarn", "factor": config["rope_scaling_factor"], "truncate": False,
                        "beta_fast": config["rope_ntk_beta"], "beta_slow": config["rope_ntk_alpha"],
                        "original_max_position_embeddings": config["initial_context_length"],
                    },
                    **{k: config[k] for k in (
                        "num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size", "swiglu_limit", "head_dim",
                        "num_attention_heads", "num_key_value_heads", "sliding_window", "rope_theta")},
                }
            case _:
                sys.exit(f"{kind}: no such kind")
        with open(os.path.join(folder, beside), "w") as f:
            json.dump(text, f, indent=2, sort_keys=True)


main()
