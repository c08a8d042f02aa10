"""Slices of a checkpoint as gpt_oss.torch makes them for its ranks.

    slices.py CKPT          print a digest of the parameters that each rank has
    slices.py CKPT SLICES   compare them, element by element, with those in
                            SLICES/N-R, rank R of N, that ossify convert wrote

Each rank is built by the unmodified Transformer.from_checkpoint, which is told
that it is one of several. No rank computes anything.
"""

import hashlib
import os
import struct
import sys
import json

import torch
import torch.distributed as dist

from gpt_oss.torch.model import Transformer


def rank_of(path, rank, ranks):
    dist.is_initialized = lambda: True
    dist.get_rank = lambda: rank
    dist.get_world_size = lambda: ranks
    model = Transformer.from_checkpoint(path, device=torch.device("cpu"))
    out = {}
    for name, p in sorted(model.named_parameters()):
        half = p.detach().to(torch.bfloat16)  # norm scales are float32, read from bfloat16
        assert torch.equal(half.to(p.dtype), p), name
        out[name] = half.contiguous()
    return out


def raw(t):
    return t.view(torch.uint8).numpy().tobytes()


def read(folder):
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(n))
    header.pop("__metadata__")
    data = torch.from_file(path, size=os.path.getsize(path), dtype=torch.uint8)[8 + n:]
    return {k: data[slice(*t["data_offsets"])].view(torch.bfloat16).reshape(t["shape"]) for k, t in header.items() if t["dtype"] == "BF16"}


def main():
    path, slices = sys.argv[1], sys.argv[2:]
    tensors = 0
    for ranks in (1, 2, 4, 8):
        for rank in range(ranks):
            want = rank_of(path, rank, ranks)
            if not slices:
                h = hashlib.sha256()
                for name, t in want.items():
                    h.update(f"{name} {list(t.shape)}\n".encode() + raw(t))
                print(ranks, rank, len(want), h.hexdigest())
                continue
            got = read(os.path.join(slices[0], f"{ranks}-{rank}"))
            assert sorted(got) == list(want), f"{ranks}-{rank}: names differ"
            for name, t in want.items():
                assert got[name].shape == t.shape and torch.equal(got[name].view(torch.int16), t.view(torch.int16)), f"{ranks}-{rank}: {name} differs"
                tensors += 1
    if slices:
        print(f"{tensors} tensors of 15 ranks, the same")


main()
