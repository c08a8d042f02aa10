"""Reads safetensors files, bfloat16 among them, which numpy has no type for."""

import json

import numpy as np

TYPES = {"BF16": np.uint16, "U8": np.uint8, "F32": np.float32, "U32": np.uint32, "I32": np.int32, "I64": np.int64}


def read(path):
    """The tensors of a file by name, mapped; bfloat16 as its bits."""
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", offset=8 + size)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in TYPES:
            raise SystemExit(f"{path.name}: {name}: type {entry['dtype']}, want one of {', '.join(TYPES)}")
        first, last = entry["data_offsets"]
        tensors[name] = data[first:last].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def float32(bf16):
    """The values of bfloat16 bits."""
    return (bf16.astype(np.uint32) << 16).view(np.float32)
