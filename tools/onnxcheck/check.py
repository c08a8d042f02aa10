"""Check exported models in other people's programs.

    python check.py [--runtime ort|reference|openvino] [--library FILE] [--checked] DIR

DIR holds what `go run ./tools/onnxcheck DIR` writes: folders with model.onnx,
and beside each NAME.expected.safetensors with the oracle's float64 values. Each
model is checked by onnx.checker (full) and strict shape inference with data
propagation (unless --checked says that it was, as these don't depend on the runtime), then run: at once, in chunks through the cache, and as a left-padded
batch of three lengths. Exits 1 if anything fails.
"""

import argparse
import glob
import os
import sys
import time

import numpy as np
import onnx
from safetensors.numpy import load_file

# A stage computed in float32 from the same inputs is within 1e-5 of its rms.
# Whole models run freely, so that errors of four blocks add up, and rounding
# may swap two experts' near-equal weights: 1e-4.
TOLERANCE = {"module": 1e-5, "model": 1e-4}


class Ort:
    library = ""  # of operators

    def __init__(self, path):
        import onnxruntime

        o = onnxruntime.SessionOptions()
        o.add_session_config_entry("session.intra_op.allow_spinning", "0")  # small models: threads would wait most of the time
        if self.library:
            o.register_custom_ops_library(self.library)
        self.s = onnxruntime.InferenceSession(path, o, providers=["CPUExecutionProvider"])

    def run(self, feeds):
        names = [o.name for o in self.s.get_outputs()]
        return dict(zip(names, self.s.run(names, feeds)))


class Reference:
    def __init__(self, path):
        from onnx.reference import ReferenceEvaluator

        self.s = ReferenceEvaluator(path)

    def run(self, feeds):
        return dict(zip(self.s.output_names, self.s.run(None, feeds)))


class OpenVINO:
    def __init__(self, path):
        import openvino

        core = openvino.Core()
        # The CPU plugin may use bfloat16, and flushes subnormals, unless told not to.
        self.names = {o.name for o in onnx.load(path, load_external_data=False).graph.output}
        self.s = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(self, feeds):
        out = self.s(feeds)
        return {name: out[o] for o in self.s.outputs for name in o.get_names() if name in self.names}


def check(path):
    """Runs onnx.checker and strict shape inference."""
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {o.domain for o in model.opset_import} <= {"", "ossify"}, "operators beyond the standard's"
    same = {f.name for f in model.functions} & {s.name for s in onnx.defs.get_all_schemas_with_history()}
    assert not same, f"functions named as standard operators: {same}"


def graph_inputs(path):
    model = onnx.load(path, load_external_data=False)
    return {v.name: [d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in model.graph.input}


def feeds(inputs, ids, mask, cache):
    """Inputs of one call; without a cache, an empty one."""
    f = {"input_ids": ids, "attention_mask": mask}
    for name, shape in inputs.items():
        if name.startswith("past_key_values"):
            empty = np.zeros((len(ids), shape[1], 0, shape[3]), np.float32)
            f[name] = cache.get(name.replace("past_key_values", "present"), empty)
    return f


def compare(what, got, want, rms, tolerance):
    """Returns the worst stage; fails unless every difference is within tolerance · rms of the stage."""
    worst, stage = 0.0, ""
    for name, g in got.items():
        if name.startswith("present"):
            continue
        w = want[name]
        assert g.shape == w.shape, f"{what}: {name}: shape {g.shape}, want {w.shape}"
        d = np.max(np.abs(g.astype(np.float64) - w)) / rms[name]
        if not d <= worst:
            worst, stage = d, name
    assert worst <= tolerance, f"{what}: {stage}: off by {worst:.2g} of its rms, want at most {tolerance:.0e}"
    return worst, stage


def check_one(runtime, path, expected, tolerance, calls):
    inputs = graph_inputs(path)
    s = runtime(path)
    ids = expected["input_ids"]
    n = len(ids)
    batch, seq = inputs["input_ids"]
    last = None

    def want(rows):
        return {k: v[rows][None] for k, v in expected.items()}

    rms = {k: np.sqrt(np.mean(np.square(v.astype(np.float64)))) or 1.0 for k, v in expected.items()}
    worst = (0.0, "")
    # At once.
    if batch in (None, 1):
        out = s.run(feeds(inputs, ids[None], np.ones((1, n), np.int64), {}))
        last = out["logits"].shape[1] == 1 and n > 1
        w = want(slice(0, n))
        if last:
            w["logits"] = w["logits"][:, -1:]
        worst = max(worst, compare("at once", out, w, rms, tolerance))
    # In chunks, through the cache; a single token last.
    if calls and batch in (None, 1) and seq is None:
        for size in (1, 7, 20):
            cache, parts = {}, []
            for at in range(0, n, size):
                to = min(at + size, n)
                cache = s.run(feeds(inputs, ids[None, at:to], np.ones((1, to), np.int64), cache))
                w = want(slice(at, to))
                if last:
                    w["logits"] = w["logits"][:, -1:]
                worst = max(worst, compare(f"chunks of {size}, from {at}", cache, w, rms, tolerance))
    # A batch of three lengths, padded on the left, in two calls.
    if calls and batch in (None, 3) and seq is None:
        lengths = (n, n - 13, 5)
        rows = np.zeros((3, n), np.int64)
        mask = np.zeros((3, n), np.int64)
        for i, k in enumerate(lengths):
            rows[i, n - k :], mask[i, n - k :] = ids[:k], 1
        cache = {}
        for at, to in ((0, n - 3), (n - 3, n)):
            cache = s.run(feeds(inputs, rows[:, at:to], mask[:, :to], cache))
            for name, g in cache.items():
                assert np.all(np.isfinite(g)), f"padded: {name}: not finite"
            for i, k in enumerate(lengths):
                first = max(at - (n - k), 0)  # of the row's own positions
                count = to - at - max(n - k - at, 0)
                w = want(slice(first, first + count))
                got = {k: v[i : i + 1, -count:] for k, v in cache.items() if not k.startswith("present")}
                if cache["logits"].shape[1] == 1:
                    got["logits"], w["logits"] = cache["logits"][i : i + 1], w["logits"][:, -1:]
                worst = max(worst, compare(f"padded to {n} from {k}, from {at}", got, w, rms, tolerance))
    return worst


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    runtimes = {"ort": Ort, "reference": Reference, "openvino": OpenVINO}
    p.add_argument("--runtime", choices=runtimes, default="ort")
    p.add_argument("--library", default="", help="of operators, for ort")
    p.add_argument("--checked", action="store_true", help="the files were checked, without this option, in the same way before")
    p.add_argument("--only", default="", help="examples whose name starts so")
    p.add_argument("dir")
    a = p.parse_args()
    Ort.library = a.library
    failed, start = 0, time.time()
    for file in sorted(glob.glob(os.path.join(a.dir, "*.expected.safetensors"))):
        name = os.path.basename(file).removesuffix(".expected.safetensors")
        path = os.path.join(a.dir, name, "model.onnx")
        if not name.startswith(a.only):
            continue
        if a.runtime == "openvino" and onnx.load(path, load_external_data=False).functions:
            continue  # OpenVINO does not expand functions
        whole = any(name.startswith(s) for s in ("model", "fault", "checkpoint", "block", "mlp"))
        tolerance = TOLERANCE["model" if whole else "module"]
        try:
            if not a.checked:
                check(path)
            worst, stage = check_one(runtimes[a.runtime], path, load_file(file), tolerance, not name.startswith("fault"))
            print(f"{name}: off by at most {worst:.2g} of rms ({stage})", flush=True)
        except Exception as e:  # one line each; go on with the others
            failed += 1
            print(f"{name}: FAIL: {type(e).__name__}: {str(e).strip()[:500]}")
    print(f"{a.runtime}: {failed} failed, {time.time() - start:.0f} s")
    sys.exit(failed > 0)


main()
