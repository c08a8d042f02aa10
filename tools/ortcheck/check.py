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

TOLERANCE = 2e-5  # of the rms: each way may be off by 1e-5 of what is exact
FAULTY = 1e-4  # of models with a fault, some of which amplify rounding: what check.py of tools/onnxcheck holds whole models to


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


def calls(s):
    """Logits and caches of chunks, and of a left-padded batch in two calls."""
    r, out = np.random.default_rng(7), []
    ids, cache = r.integers(0, 512, (1, 30)), None
    for a, b in ((0, 17), (17, 18), (18, 30)):
        logits, cache = run(s, ids[:, a:b], np.ones((1, b), np.int64), cache)
        out += [logits] + cache
    ids, mask, cache = r.integers(0, 512, (3, 21)), np.ones((3, 21), np.int64), None
    mask[1, :9] = mask[2, :15] = 0
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
    worst, n = 0.0, 0
    for path in sorted(glob.glob(os.path.join(dir, "*", "model.onnx"))):
        name = os.path.basename(os.path.dirname(path))
        if not (name.startswith(("fault", "checkpoint")) or name in ("model", "model.last", "model.trace")):
            continue
        d = off(calls(session(path, library, name == "model")), calls(session(path, None)))
        limit = FAULTY if name.startswith("fault") else TOLERANCE
        assert d <= limit, f"{name}: off by {d:.2g} of the rms, want at most {limit:.0e}"
        assert d > 0 or "checkpoint" in name, f"{name}: the same bits: was the library asked?"
        worst, n = max(worst, d), n + 1
    print(f"{n} models with and without: off by at most {worst:.2g} of the rms")
    lies(library)
    many(library, os.path.join(dir, "model", "model.onnx"))


main()
