#!/usr/bin/env python3
"""Times an exported model in ONNX Runtime, or one of onnxruntime-genai's packages; prints JSON.

Each test has a run to warm up, of its own length. Prefill is of random tokens from nothing; decode is one by one through the
cache, after 16 tokens. With --logits nothing is timed: the tokens on standard input are run, the last
of them (--decode) one by one, and the logits of each call's last position are written, float32.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import numpy as np

PAST = 16  # tokens before decode is timed


class OnnxRuntime:
    """A model with a cache that grows, its tensors bound, so that none is copied to Python and back."""

    def __init__(self, path, threads, library):
        import onnxruntime as ort

        self.ort = ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        if library:
            options.register_custom_ops_library(library)
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.past = [x for x in self.session.get_inputs() if x.name.startswith("past")]
        self.versions = {"onnxruntime": ort.__version__}
        self.vocab = self.session.get_outputs()[0].shape[-1]
        self.start(0)

    def start(self, room):
        self.length = 0
        self.cache = [self.ort.OrtValue.ortvalue_from_numpy(np.zeros((1, x.shape[1], 0, x.shape[3]), np.float32)) for x in self.past]

    def next(self, ids):
        """Logits of the last of ids, which come after those before."""
        self.length += len(ids)
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
        binding.bind_cpu_input("attention_mask", np.ones((1, self.length), np.int64))
        for x, value in zip(self.past, self.cache):
            binding.bind_ortvalue_input(x.name, value)
        for output in self.session.get_outputs():
            binding.bind_output(output.name, "cpu")
        self.session.run_with_iobinding(binding)
        logits, *self.cache = binding.get_outputs()
        return logits.numpy()[0, -1]

    def greedy(self, ids, count):
        """Answers ids with count tokens, and returns the seconds of each but the first, which ids' own logits give."""
        token = int(self.next(ids).argmax())
        for _ in range(count):
            start = time.perf_counter()
            token = int(self.next([token]).argmax())
            yield time.perf_counter() - start


class GenAI:
    """onnxruntime-genai's Generator."""

    def __init__(self, path, threads, library):
        import onnxruntime_genai as og

        self.og = og
        config = og.Config(str(path))
        # An answer has its length whatever its tokens are; the builder may name an end that no row stands for.
        config.overlay(json.dumps({"model": {"eos_token_id": 0, "decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self.model = og.Model(config)
        self.versions = {"onnxruntime-genai": og.__version__}
        self.vocab = json.loads((Path(path) / "genai_config.json").read_text())["model"]["vocab_size"]

    def start(self, room):
        params = self.og.GeneratorParams(self.model)
        room = max(room, 128)  # its caches refuse to be smaller than the window
        params.set_search_options(do_sample=False, max_length=room, min_length=room)
        self.generator = self.og.Generator(self.model, params)

    def next(self, ids):
        self.generator.append_tokens(np.array([ids], np.int32))
        return self.generator.get_output("logits")[0, -1]

    def greedy(self, ids, count):
        self.generator.append_tokens(np.array([ids], np.int32))
        self.generator.generate_next_token()
        for _ in range(count):
            start = time.perf_counter()
            self.generator.generate_next_token()
            yield time.perf_counter() - start


def own():
    """Bytes of memory that are no mapped file's."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model.onnx, or a folder with genai_config.json")
    parser.add_argument("--library", help="of operators")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prefill", help="tokens, a,b,c")
    parser.add_argument("--decode", type=int, required=True)
    parser.add_argument("--repeat", type=int)
    parser.add_argument("--logits", help="file to write")
    args = parser.parse_args()

    kind = GenAI if Path(args.model).is_dir() else OnnxRuntime
    before, start = own(), time.perf_counter()
    engine = kind(args.model, args.threads, args.library)
    load, loaded = time.perf_counter() - start, own() - before

    if args.logits:
        ids = list(map(int, sys.stdin.read().split()))
        engine.start(len(ids) + 1)
        first = len(ids) - args.decode
        with open(args.logits, "wb") as f:
            for call in [ids[:first], *([t] for t in ids[first:])]:
                f.write(np.ascontiguousarray(engine.next(call), np.float32))
        return

    draw = np.random.default_rng(1)

    def prefill(n):
        engine.start(n + 1)
        ids = draw.integers(0, engine.vocab, n).tolist()
        start = time.perf_counter()
        engine.next(ids)
        return n / (time.perf_counter() - start)

    def decode(n):
        engine.start(PAST + n + 1)
        return n / sum(engine.greedy(draw.integers(0, engine.vocab, PAST).tolist(), n))

    def rates(test, n):
        test(n)
        return [test(n) for _ in range(args.repeat)]

    report = {f"prefill {n}": rates(prefill, n) for n in map(int, args.prefill.split(","))}
    report[f"decode {args.decode}"] = rates(decode, args.decode)
    print(json.dumps(report | {"load_s": load, "own_after_load": loaded, "own": own(), "versions": engine.versions}))


if __name__ == "__main__":
    main()
