#!/usr/bin/env python3
"""Runs somebody's ONNX gpt-oss in ONNX Runtime and compares it with a golden.

The golden is a trace that tools/reference/trace.py wrote of the PyPI gpt-oss
package: tokens, positions and the logits (unembedding) at those positions. All
tokens go in at once, then the last ones again one by one through the cache.
Prints one line of JSON.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file

STEPS = 50  # tokens decoded one by one


class Model:
    """A session whose inputs are told apart by name and by what shapes leave open."""

    def __init__(self, path):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Only the weights should take memory: some of these models hold them as float32.
        options.enable_cpu_mem_arena = False
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.cache = sorted(n for n in self.inputs if n.startswith("past"))
        self.ids = next(n for n in self.inputs if n in ("input_ids", "tokens"))
        length = self.inputs[self.ids].shape[1]
        self.length = length if isinstance(length, int) else None  # None: any

    def empty(self, width):
        """The cache before the first token, keys and values of width over all heads."""
        cache = {}
        for name in self.cache:
            heads = self.inputs[name].shape[1]  # [batch, heads, past, width / heads]
            kind = np.float16 if "float16" in self.inputs[name].type else np.float32
            cache[name] = np.zeros([1, heads, 0, width // heads], kind)
        return cache

    def run(self, tokens, past, cache):
        """The logits [len(tokens), vocab] and the next cache, after past tokens."""
        kinds = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
        feeds = dict(cache)
        for name, i in self.inputs.items():
            if name == self.ids:
                value = tokens
            elif name == "attention_mask":
                value = np.ones(past + len(tokens))
            elif name == "position_ids":
                value = np.arange(past, past + len(tokens))
            elif name in cache:
                continue
            else:
                sys.exit(f"parity.py: input {name} {i.type} {i.shape}: unknown")
            feeds[name] = np.asarray(value)[None].astype(kinds[i.type])
        out = dict(zip(self.outputs, self.session.run(None, feeds)))
        logits = next(v for n, v in out.items() if n.startswith("logits"))
        following = {n: out[n.replace("past_key_values", "present")] for n in self.cache}
        return logits.reshape(len(tokens), -1).astype(np.float64), following


def compare(got, want, positions, rms):
    """Differences in units of the rms of the golden's logits."""
    each = np.abs(got - want).max(axis=1) / rms  # [positions]
    return {
        "max": float(each.max()),
        "median": float(np.median(each)),
        "before 128": float(each[positions < 128].max()) if (positions < 128).any() else None,
        "from 128": float(each[positions >= 128].max()) if (positions >= 128).any() else None,
        "top": float((got.argmax(axis=1) == want.argmax(axis=1)).mean()),
        "positions": len(each),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("golden")
    parser.add_argument("--save", help="also write the logits, .npy")
    args = parser.parse_args()

    golden = load_file(args.golden)
    tokens, positions = golden["tokens"], golden["positions"]
    want = golden["unembedding"].astype(np.float64)
    width = golden["block.0.attn.v"].shape[1]
    model = Model(args.model)
    if model.length is not None:
        tokens = tokens[: model.length]
    kept = positions < len(tokens)
    positions, want = positions[kept], want[kept]
    rms = np.sqrt(np.mean(want**2))

    logits, _ = model.run(tokens, 0, model.empty(width))
    if args.save:
        np.save(args.save, logits)
    report = {"runtime": ort.__version__, "tokens": len(tokens),
              "prefill": compare(logits[positions], want, positions, rms)}
    if model.cache:
        first = len(tokens) - STEPS
        _, cache = model.run(tokens[:first], 0, model.empty(width))
        rows = []
        for n in range(first, len(tokens)):
            row, cache = model.run(tokens[n : n + 1], n, cache)
            rows.append(row[0])
        late = positions >= first
        report["decode"] = compare(np.stack(rows)[positions[late] - first], want[late], positions[late], rms)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
