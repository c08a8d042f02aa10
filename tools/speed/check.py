#!/usr/bin/env python3
"""Shows that the GGUF is the same model, and what each program's arithmetic costs: logits beside ours.

The yardstick is `ossify trace --precision f32`, which docs/parity.md compares with PyTorch. llama.cpp
and ik_llama.cpp round the bounds of YaRN's ramp, a known bug; so they are compared with ossify's logits
as they are, and with those of a model that has this bug too (rounded/main.go): what is left of the
difference is arithmetic, the 8-bit activations above all. Started by run.sh.

--most is for a small model: docs/speed.md has what wrong files give there.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys

import numpy as np

import programs
from tensors import float32, read

SEED = 1


def logits_of(path):
    """[tokens, vocabulary] of a trace."""
    tensor = read(path)["unembedding"]
    return float32(tensor) if tensor.dtype == np.uint16 else tensor


def compare(got, want):
    """Differences over the rms of what is wanted; row by row, for these are large."""
    square = error = most = same = 0
    for g, w in zip(got, want):
        d = np.abs(g.astype(np.float64) - w)
        square += np.mean(w.astype(np.float64) ** 2)
        error += np.mean(d**2)
        most = max(most, d.max())
        same += g.argmax() == w.argmax()
    rms = np.sqrt(square / len(want))
    return {"rms": float(np.sqrt(error / len(want)) / rms), "max": float(most / rms), "top": float(same / len(want))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    programs.arguments(parser)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--decode", type=int, default=32, help="of these, how many one by one")
    parser.add_argument("--most", type=float, help="fail if a peer with bf16 dense differs by more, in units of what ossify's bf16 does")
    args = parser.parse_args()
    setup = programs.Setup(args)

    checkpoint = setup.checkpoint()
    vocab = setup.config()["vocab_size"]
    draw = random.Random(SEED)
    ids = " ".join(str(draw.randrange(vocab)) for _ in range(args.tokens))
    work = setup.results / "logits"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "ids.txt").write_text(ids + "\n")

    def trace(name, *command):
        out = work / f"{name}.safetensors"
        subprocess.run([*command, out], check=True, preexec_fn=programs.first_to_go)
        return logits_of(out)

    rows = args.tokens - args.decode - 1 if args.onnx else 0  # the first that all programs say

    def ours(precision):
        return trace(precision, setup.ossify, "trace", checkpoint, "--tokens-file", work / "ids.txt", "--precision", precision,
                     "--stages", "unembedding", "--no-hash", "-o")[rows:]

    def onnx(name, model, *library):
        """Logits of the last position of each call: the prompt's, and those decoded."""
        out = work / f"{name}.bin"
        subprocess.run([setup.python, programs.HERE / "onnx_bench.py", model, "--threads", str(args.threads), "--decode", str(args.decode), "--logits", out, *library],
                       input=ids, text=True, check=True, preexec_fn=programs.first_to_go)
        got = np.fromfile(out, np.float32).reshape(-1, vocab)
        out.unlink()
        report["logits"][name] = {"ours": compare(got, exact), "rounded": compare(got, rounded)}

    exact = ours("f32")
    rounded = trace("rounded", setup.work / "rounded", checkpoint, work / "ids.txt")[rows:]
    report = {"tokens": args.tokens, "decoded": args.decode, "logits": {
        "ossify bf16": {"ours": compare(ours("bf16"), exact)},
        "ossify f32, YaRN rounded": {"ours": compare(rounded, exact)},
    }}
    for peer in setup.peers:
        for dense in setup.dense:
            out = work / f"{peer}-{dense}.bin"
            with open(out, "wb") as f:
                subprocess.run([setup.work / peer / "logits", setup.gguf(dense), str(args.threads), str(args.decode)],
                               input=ids.encode(), stdout=f, check=True, preexec_fn=programs.first_to_go)
            got = np.memmap(out, np.float32, "r").reshape(args.tokens, vocab)[rows:]
            report["logits"][f"{peer}, {dense} dense"] = {"ours": compare(got, exact), "rounded": compare(got, rounded)}
            out.unlink()

    if args.onnx:
        onnx("ONNX Runtime, operator library", setup.onnx(), "--library", setup.library)
        onnx("ONNX Runtime", setup.onnx())
        for precision in setup.packages:
            onnx(f"onnxruntime-genai, {precision}", setup.package(precision))

    said = f"the last {args.decode + 1} of " if args.onnx else ""
    lines = [f"Logits of {said}{args.tokens} random tokens, the last {args.decode} decoded one by one; differences over their rms.", "",
             "| | from ossify f32: rms | max | same top token | from f32 with YaRN rounded: rms | max | same top token |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for name, r in report["logits"].items():
        cells = [f"{d['rms']:.1e} | {d['max']:.1e} | {d['top']:.1%}" if d else "| | " for d in (r["ours"], r.get("rounded"))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    (setup.results / "logits.json").write_text(json.dumps(report, indent=1) + "\n")
    (setup.results / "logits.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines) + "\n")
    unit = report["logits"]["ossify bf16"]["ours"]["rms"]
    for name, r in report["logits"].items():
        if args.most and name.endswith("bf16 dense") and not r["rounded"]["rms"] <= args.most * unit:
            sys.exit(f"check: {name}: differs by {r['rounded']['rms']:.2g} of the logits' rms, want at most {args.most * unit:.2g}: not the same model")


if __name__ == "__main__":
    main()
