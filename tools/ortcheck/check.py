"""Run exported models with the operator library and without.

    python check.py LIBRARY DIR

DIR holds what `go run ./tools/onnxcheck DIR` writes. Every whole model, and every
one with a fault, is run in both ways, in chunks and as a padded batch: logits
and caches agree. (That they are right, check.py of tools/onnxcheck says, which
takes the library too.) Then what lies: wrong models get an error, and sessions
come and go, many at once. Exits 1 if anything fails.
"""

import glob
import os
import resource
import sys
import threading

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T, helper as h
from safetensors.numpy import load_file

TOLERANCE = 2e-5  # of the rms: each way may be off by 1e-5 of what is exact

# Models with a fault may amplify rounding. How much each does is measured: the oracle, with an error in every
# stage as one rounding to float32 makes it, has logits that are off by `amplified` of their rms (tools/onnxcheck).
# docs/parity.md bounds a sum of n products by 2.94 u sqrt(n (sum of squares + y^2)), where a rounding has 2.94 u |y|.
# So a stage whose sum is about as large as its terms' squares let expect is off by sqrt(2 n) times as much as by its
# rounding; tiny's longest sums, of attn.out, have 8 heads of 16 terms. Errors of stages are small and add: so logits are off
# by at most sqrt(2 * 128) times amplified, and those of two programs from each other by twice that. A model which
# amplifies so much that this is more than FAULTY, what check.py of tools/onnxcheck holds whole models to, is held to FAULTY.
FAULTY = 1e-4
PROGRAM = (2 * 8 * 16) ** 0.5
# The bound must tell each from the model without its fault. These two it cannot: their exact logits are 9e-7 and 4e-5 of the rms
# from the right ones', and their bounds 7e-5 and 8e-5.
NEAR = {"fault YaRN factor 31.99", "fault gate clamped on both sides"}


def session(model, library, everything=False):
    o = ort.SessionOptions()
    o.intra_op_num_threads = 2
    o.add_session_config_entry("session.intra_op.allow_spinning", "0")
    o.log_severity_level = 3
    if library:
        o.register_custom_ops_library(library)
    if not everything:
        o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])


def run(s, ids, mask, cache=None):
    f = {"input_ids": ids, "attention_mask": mask}
    for i, x in enumerate(x for x in s.get_inputs() if x.name.startswith("past")):
        f[x.name] = np.zeros((len(ids), x.shape[1], 0, x.shape[3]), np.float32) if cache is None else cache[i]
    names = [o.name for o in s.get_outputs() if o.name == "logits" or o.name.startswith("present")]
    out = s.run(names, f)
    return out[0], out[1:]


def calls(s, tokens=None):
    """Logits and caches of chunks, and of a left-padded batch in two calls; of random tokens, or those given."""
    r, out = np.random.default_rng(7), []
    ids, cache = r.integers(0, 512, (1, 30)) if tokens is None else tokens[None, :30], None
    for a, b in ((0, 17), (17, 18), (18, 30)):
        logits, cache = run(s, ids[:, a:b], np.ones((1, b), np.int64), cache)
        out += [logits] + cache
    ids, mask, cache = r.integers(0, 512, (3, 21)), np.ones((3, 21), np.int64), None
    mask[1, :9] = mask[2, :15] = 0
    if tokens is not None:
        for row, length in zip(ids, (21, 12, 6)):
            row[21 - length :] = tokens[:length]
    for a, b in ((0, 20), (20, 21)):
        logits, cache = run(s, ids[:, a:b], mask[:, :b], cache)
        real = mask[:, a:b].astype(bool) if logits.shape[1] > 1 else np.ones((3, 1), bool)
        out += [logits[real]]
    return out


def off(got, want):
    return max(float(np.max(np.abs(g - w)) / (np.sqrt(np.mean(w.astype(np.float64) ** 2)) or 1)) for g, w in zip(got, want))


def lies(library):
    """Models whose calls are not as the library takes them: an error each, in the library's words."""

    def model(inputs, op="Linear", **attributes):
        names = [f"i{i}" for i in range(len(inputs))]
        ports = [h.make_tensor_value_info(n, t, [f"{n}_{j}" for j in range(len(s))]) for n, (t, s) in zip(names, inputs)]
        node = h.make_node(op, names, ["y"], domain="ossify", **attributes)
        g = h.make_graph([node], "g", ports, [h.make_tensor_value_info("y", T.FLOAT, None)])
        m = h.make_model(g, opset_imports=[h.make_opsetid("", 21), h.make_opsetid("ossify", 2)], ir_version=10)
        s = session(m.SerializeToString(), library)
        kinds = {T.FLOAT: np.float32, T.UINT8: np.uint8, T.INT64: np.int64}
        return s.run(None, {n: np.zeros(shape, kinds[t]) for n, (t, shape) in zip(names, inputs)})

    f, u, i = T.FLOAT, T.UINT8, T.INT64
    tables = [(f, [0]), (f, [0])]
    cases = {
        "weights of float": (dict(inputs=[(f, [1, 2, 8]), (f, [4, 8])]), "want weights bfloat16"),
        "no experts": (dict(inputs=[(i, [1, 1, 2]), (f, [1, 1, 32]), (u, [4, 2, 1, 16]), (u, [4, 2, 1])] + tables + [(f, [4, 2])], op="ExpertLinear"), "experts"),
        "blocks that lie": (dict(inputs=[(i, [1, 1, 2]), (f, [1, 1, 32]), (u, [4, 2, 1, 15]), (u, [4, 2, 1])] + tables + [(f, [4, 2])], op="ExpertLinear", experts=4), "blocks"),
        "x that lies": (dict(inputs=[(i, [1, 1, 2]), (f, [1, 2, 32]), (u, [4, 2, 1, 16]), (u, [4, 2, 1])] + tables + [(f, [4, 2])], op="ExpertLinear", experts=4), "ExpertLinear: x"),
        "a gate without a limit": (dict(inputs=[(f, [1, 2, 8])], op="InterleavedSwiGLU", alpha=1.702), "limit"),
        "a gate whose limit is none": (dict(inputs=[(f, [1, 2, 8])], op="InterleavedSwiGLU", alpha=1.702, limit=-7.0), "limit -7"),
        "a gate of half a pair": (dict(inputs=[(f, [1, 2, 7])], op="InterleavedSwiGLU", alpha=1.702, limit=7.0), "pairs of columns"),
        "weights of another choice": (dict(inputs=[(f, [1, 2, 3]), (f, [1, 2, 4, 8])], op="Mix"), "Mix: weights"),
    }
    for name, (case, want) in cases.items():
        try:
            model(**case)
        except Exception as e:
            assert want in str(e), f"{name}: {e}"
        else:
            sys.exit(f"{name}: it ran")
    print(f"{len(cases)} models that lie: an error each")


def many(library, path):
    """Sessions opened and closed, then used by many threads at once."""
    want = calls(session(path, library))
    sessions = [session(path, library) for _ in range(2)]
    wrong = []

    def work(i):
        if off(calls(sessions[i % 2]), want) != 0:
            wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, f"threads {wrong} got other bits"
    one = h.make_model(
        h.make_graph([h.make_node("Linear", ["x", "w"], ["y"], domain="ossify")], "g", [h.make_tensor_value_info("x", T.FLOAT, [1, 32])],
                     [h.make_tensor_value_info("y", T.FLOAT, None)], [h.make_tensor("w", T.BFLOAT16, [16, 32], b"\0" * 1024, raw=True)]),
        opset_imports=[h.make_opsetid("", 21), h.make_opsetid("ossify", 2)], ir_version=10).SerializeToString()
    for i in range(1000):
        session(one, library).run(None, {"x": np.zeros((1, 32), np.float32)})
        if i == 200:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 16, f"800 sessions took {grown:.0f} MB"
    print(f"8 threads, 2 sessions: the same bits; 1000 sessions: {grown:.1f} MB more after the first 200")


def main():
    library, dir = os.path.abspath(sys.argv[1]), sys.argv[2]
    print("ONNX Runtime", ort.__version__)
    worst, n, part, narrowest, right, blind = 0.0, 0, 0.0, FAULTY, None, []
    for path in sorted(glob.glob(os.path.join(dir, "*", "model.onnx"))):
        name = os.path.basename(os.path.dirname(path))
        if not (name.startswith(("fault", "checkpoint")) or name in ("model", "model.last", "model.trace")):
            continue
        tokens, limit = None, TOLERANCE
        if name.startswith("fault"):
            tokens = load_file(f"{dir}/{name}.expected.safetensors")["input_ids"]
            limit = min(FAULTY, 2 * PROGRAM * load_file(f"{dir}/{name}.amplified.safetensors")["amplified"][0])
        got = calls(session(path, library, name == "model"), tokens)
        d = off(got, calls(session(path, None), tokens))
        if tokens is not None:
            part, narrowest = max(part, d / limit), min(narrowest, limit)
            if right is None:
                right = calls(session(os.path.join(dir, "model", "model.onnx"), None), tokens)
            if name not in NEAR and off(got, right) <= limit:
                blind.append(name)
        assert d <= limit, f"{name}: off by {d:.2g} of the rms, want at most {limit:.1e}"
        assert d > 0 or "checkpoint" in name, f"{name}: the same bits: was the library asked?"
        worst, n = max(worst, d), n + 1
    print(f"{n} models with and without: off by at most {worst:.2g} of the rms; with a fault, {part:.2g} of what each may be, {narrowest:.1e} or more")
    assert not blind, f"as near to the right model as to the wrong: {blind}"
    lies(library)
    many(library, os.path.join(dir, "model", "model.onnx"))


main()
