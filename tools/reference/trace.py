#!/usr/bin/env python3
"""Runs the PyPI gpt-oss reference on a checkpoint and writes a trace.

The model is gpt_oss/torch/model.py as published, unmodified, on the CPU. This
program only looks on: forward hooks where the reference has a module, wrappers
around the names it calls where it has none, and within these PyTorch's own
operators as they are dispatched. README.md describes the file.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import struct
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gpt_oss.torch.model as reference
import gpt_oss.torch.weights as reference_weights

FORMAT = "ossify-trace-1"

# The published files of gpt-oss 0.0.9; anything else is not the reference.
REFERENCE = {
    reference: "319ba3c6e4d827eb3115fe4838942af448376b513c02cea4b6b471bf6c21a346",
    reference_weights: "960df62a4605522099848a458ef21726f20adf33587e1d97196520bb67ab0957",
}

DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int32: "I32"}


def fail(message):
    sys.exit(f"trace.py: {message}")


def sha256_file(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def checkpoint_hash(folder):
    """sha256 over one line a file, sorted by name: name NUL hex-sha256 LF."""
    names = [p.name for p in folder.iterdir() if p.name.endswith(".safetensors")]
    lines = "".join(
        f"{name}\0{sha256_file(folder / name)}\n" for name in sorted(names + ["config.json"])
    )
    return hashlib.sha256(lines.encode()).hexdigest()


def splitmix64(x):
    """Sebastiano Vigna's splitmix64: the mix of the x-th state after 0."""
    mask = (1 << 64) - 1
    z = x * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def parse_ids(text, what):
    """1,2,5-9 as a list; ranges include both ends."""
    ids = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            ids.extend(range(int(first), int(last if dash else first) + 1))
        except ValueError:
            fail(f"--{what} {text}: {part!r} is neither a number nor a range")
    return ids


def parse_tokens(text, vocab):
    """A list as in parse_ids, or random:COUNT:SEED."""
    if not text.startswith("random:"):
        ids = parse_ids(text, "tokens")
    else:
        try:
            count, seed = map(int, text.split(":")[1:])
        except ValueError:
            fail(f"--tokens {text}: want random:COUNT:SEED")
        start = splitmix64(seed + 1)  # distant streams for neighbouring seeds
        ids = [splitmix64(start + i) % vocab for i in range(1, count + 1)]
    if not ids:
        fail("--tokens: no tokens")
    for i in ids:
        if not 0 <= i < vocab:
            fail(f"--tokens: id {i}, want 0 to {vocab - 1}")
    return ids


class Capture:
    """Collects what passes through the reference, by stage."""

    def __init__(self):
        self.parts = {}  # stage -> list of pieces, each of some rows

    def add(self, stage, value):
        self.parts.setdefault(stage, []).append(value.detach().clone())

    def stages(self):
        return {stage: torch.cat(pieces) for stage, pieces in self.parts.items()}


def flat(t):
    """Rows of heads as one row: [T, ..., D] to [T, product]."""
    return t.reshape(t.shape[0], -1)


class Steps(TorchDispatchMode):
    """Watches operators while inside: the steps within stages that round go to capture.

    scope is the path of the stage that runs: of sdpa or swiglu, else of the MLP.
    Of attention's steps those of the given rows are kept.
    """

    # What swiglu calls, columns and clamps left out, and the names of what rounds.
    SWIGLU = ["mul", "sigmoid", "mul", "add", "mul"]
    NAMES = ["alpha", "sigmoid", "out_glu", "linear.plus1"]

    def __init__(self, capture, rows):
        super().__init__()
        self.capture, self.rows = capture, rows
        self.scope, self.called, self.products = "", [], 0
        self.kept = {}  # of attention, until the mask is known

    @contextlib.contextmanager
    def within(self, path):
        """The operators inside are those of the stage at path."""
        outer, self.scope, self.called = self.scope, path, []
        yield
        want = ["mul_", "add_", "softmax"] if path.endswith(".sdpa") else self.SWIGLU
        if self.called != want:
            fail(f"{path}: operators {self.called}, want {want}: not the reference's")
        self.scope = outer

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if self.scope.endswith(".sdpa"):
            look = self.attention
        elif self.scope.endswith(".swiglu"):
            look = self.swiglu
        else:
            look = self.mlp
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        done = look(name, first) if first is not None else None
        out = func(*args, **(kwargs or {}))
        if done:
            done(out)
        return out

    def of_rows(self, t):
        """[KVHeads, Queries, T, ...] as [rows, Heads, ...]."""
        return t[:, :, self.rows].permute(2, 0, 1, 3).reshape(len(self.rows), -1, t.shape[-1])

    def attention(self, name, x):
        if name not in ("mul_", "add_", "softmax") or x.dim() != 4:
            return None  # the mask's own, and what rounds nothing
        self.called.append(name)
        if name == "mul_":
            self.kept["scores"] = self.of_rows(x)

            def done(out):
                self.kept["scaled"] = self.of_rows(out)
        elif name == "add_":

            def done(out):
                unseen = self.of_rows(out).isinf()
                for step, t in self.kept.items():
                    self.capture.add(f"{self.scope}.{step}", t.masked_fill(unseen, 0))
                self.kept = {}
        else:

            def done(out):
                self.capture.add(f"{self.scope}.weights", self.of_rows(out[..., :-1]))

        return done

    def swiglu(self, name, x):
        if name not in ("mul", "sigmoid", "add"):
            return None
        self.called.append(name)
        n = len(self.called) - 1
        if n >= len(self.NAMES):
            return None  # the stage itself
        return lambda out: self.capture.add(f"{self.scope}.{self.NAMES[n]}", out)

    def mlp(self, name, x):
        if not self.scope.endswith(".mlp") or name not in ("add", "add_") or x.dim() != 3:
            return None
        product = ("mlp1", "mlp2")[self.products % 2]  # before its bias
        if name != ("add", "add_")[self.products % 2]:
            fail(f"{self.scope}.{product}: operator {name}: not the reference's")
        self.products += 1
        self.capture.add(f"{self.scope}.{product}.product", x)
        return None


@contextlib.contextmanager
def watched(model, capture, rows=()):
    """Watches model while inside: every stage goes to capture, and what is within, at rows."""
    handles = []
    block = ""  # the path of the part that is running
    steps = Steps(capture, rows) if rows else None

    def hook(module, stage):
        handles.append(module.register_forward_hook(lambda _, __, out: capture.add(stage, out)))

    def enter(path, module):
        def set_block(_, __):
            nonlocal block
            block = path
            if steps:
                steps.scope = path

        handles.append(module.register_forward_pre_hook(set_block))

    def rope(path):
        def look(_, inputs, outputs):
            for name, before, after in zip("qk", inputs, outputs):
                capture.add(f"{path}.{name}", flat(before))
                capture.add(f"{path}.rope.{name}", flat(after))

        return look

    hook(model.embedding, "embedding")
    for n, b in enumerate(model.block):
        attn, mlp = f"block.{n}.attn", f"block.{n}.mlp"
        enter(attn, b.attn)
        hook(b.attn.norm, f"{attn}.norm")
        hook(b.attn.qkv, f"{attn}.qkv")
        handles.append(b.attn.rope.register_forward_hook(rope(attn)))
        hook(b.attn.out, f"{attn}.out")
        hook(b.attn, attn)
        enter(mlp, b.mlp)
        hook(b.mlp.norm, f"{mlp}.norm")
        hook(b.mlp.gate, f"{mlp}.gate")
        hook(b.mlp, mlp)
    hook(model.norm, "norm")
    hook(model.unembedding, "unembedding")

    # Functions without a module. Outside of sdpa and the MLP nothing calls them.
    sdpa, swiglu, topk, softmax, einsum = (
        reference.sdpa, reference.swiglu, torch.topk, torch.nn.functional.softmax, torch.einsum)

    def within(path):
        return steps.within(path) if steps else contextlib.nullcontext()

    def watch_sdpa(q, k, v, *rest):
        with within(f"{block}.sdpa"):
            out = sdpa(q, k, v, *rest)
        capture.add(f"{block}.v", flat(v))
        capture.add(f"{block}.sdpa", out)
        return out

    def watch_swiglu(x, **options):
        with within(f"{block}.swiglu"):
            out = swiglu(x, **options)
        capture.add(f"{block}.mlp1", x)
        capture.add(f"{block}.swiglu", out)
        return out

    def watch_topk(*args, **options):
        out = topk(*args, **options)
        capture.add(f"{block}.experts", out.indices.to(torch.int32))
        return out

    def watch_softmax(*args, **options):
        out = softmax(*args, **options)
        capture.add(f"{block}.weights", out)
        return out

    def watch_einsum(equation, *operands):
        out = einsum(equation, *operands)
        if equation == "bec,be->bc":  # the weighted sum; its input has the bias in it
            capture.add(f"{block}.mlp2", operands[0])
            capture.add(f"{block}.mix", out)
        return out

    with (
        mock.patch.object(reference, "sdpa", watch_sdpa),
        mock.patch.object(reference, "swiglu", watch_swiglu),
        mock.patch.object(torch, "topk", watch_topk),
        mock.patch.object(torch.nn.functional, "softmax", watch_softmax),
        mock.patch.object(torch, "einsum", watch_einsum),
        steps or contextlib.nullcontext(),
    ):
        try:
            yield
        finally:
            for h in handles:
                h.remove()


@contextlib.contextmanager
def in_portions(rows):
    """Feeds every MLPBlock rows tokens at a time, inside.

    The reference gathers the weights of a token's experts, token by token: 199 MB
    of bf16 a token at the published width. A row's result does not depend on
    the others but for the kernel that torch chooses and the order in which it
    sums, so the size is part of the trace's metadata, and portions are of even
    size: a single row alone would go to a kernel of another kind.
    """
    forward = reference.MLPBlock.forward

    def portioned(self, x):
        return torch.cat([forward(self, part) for part in x.tensor_split(-(-x.shape[0] // rows))])

    with mock.patch.object(reference.MLPBlock, "forward", portioned):
        yield


@contextlib.contextmanager
def begun_at(first):
    """Gives the rows positions from first on, inside.

    RotaryEmbedding counts positions from 0. It is asked for the cosines and sines
    of all up to the last, of which the last are kept: its own, to the bit.
    """
    original = reference.RotaryEmbedding._compute_cos_sin

    def late(self, num_tokens):
        return tuple(t[first:] for t in original(self, first + num_tokens))

    with mock.patch.object(reference.RotaryEmbedding, "_compute_cos_sin", late if first else original):
        yield


# What is within stages. Capture has all rows of the MLP's, of attention's those
# that are kept.
WITHIN = {"attn.sdpa": ["scores", "scaled", "weights"], "mlp.mlp1": ["product"],
          "mlp.swiglu": Steps.NAMES, "mlp.mlp2": ["product"]}
ATTENTION_STEPS = tuple(f".attn.sdpa.{s}" for s in WITHIN["attn.sdpa"])
MLP_STEPS = tuple(f".{stage}.{s}" for stage, steps in WITHIN.items() for s in steps if stage != "attn.sdpa")


def select(stages, positions, steps=()):
    """Keeps the rows at positions, and of what is within stages those at steps; all of the
    keys' and values', which every later row reads."""
    rows, within = torch.tensor(positions), torch.tensor(steps, dtype=torch.int64)
    whole = (".attn.rope.k", ".attn.v") + ATTENTION_STEPS
    return {
        name: t if name.endswith(whole) else t[within if name.endswith(MLP_STEPS) else rows]
        for name, t in stages.items()
    }


def expected_stages(layers, steps=()):
    attn = ["norm", "qkv", "q", "k", "v", "rope.q", "rope.k", "sdpa", "out"]
    mlp = ["norm", "gate", "experts", "weights", "mlp1", "swiglu", "mlp2", "mix"]
    names = ["embedding"]
    for n in range(layers):
        for part, stages in (("attn", attn), ("mlp", mlp)):
            for s in stages:
                if steps:
                    names += [f"block.{n}.{part}.{s}.{step}" for step in WITHIN.get(f"{part}.{s}", [])]
                names.append(f"block.{n}.{part}.{s}")
            names.append(f"block.{n}.{part}")
    return names + ["norm", "unembedding"]


def write_safetensors(path, tensors, metadata):
    """One file, tensors in the order given, the same bytes for the same input.

    The safetensors package writes metadata in random order.
    """
    header, offset = {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        size = t.numel() * t.element_size()
        header[name] = {
            "dtype": DTYPES[t.dtype],
            "shape": list(t.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for t in tensors.values():
                f.write(t.contiguous().view(torch.uint8).numpy().tobytes())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def cpu_name():
    """The processor, and whether it multiplies bf16 itself: the kernels chosen depend on both."""
    model, flags = platform.machine(), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = " ".join(f for f in ("avx512_bf16", "amx_bf16") if f in value.split())
    return f"{model}; {flags}" if flags else model


def kept(job, tokens):
    """The positions whose rows a job keeps."""
    if not job.positions:
        return list(range(len(tokens)))
    positions = sorted(set(parse_ids(job.positions, "positions")))
    if positions[0] < 0 or positions[-1] >= len(tokens):
        fail(f"--positions: {positions[0]} to {positions[-1]}, want 0 to {len(tokens) - 1}")
    if job.first:
        fail("--positions: a sequence that begins late keeps all")
    return positions


def kept_steps(job, positions):
    """Those of which a job keeps what is within stages too."""
    if not job.steps:
        return positions
    if job.steps == "none":
        return []
    steps = sorted(set(parse_ids(job.steps, "steps")))
    if other := set(steps) - set(positions):
        fail(f"--steps: {min(other)} is not among the positions kept")
    return steps


def prove(stages, rows, precision, steps=()):
    """Fails unless the stages have so many rows of that precision, all finite."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for name, t in stages.items():
        want = len(steps) if name.endswith(ATTENTION_STEPS) else rows
        if t.shape[0] != want:
            fail(f"{name}: {t.shape[0]} rows, want {want}")
        if t.dtype != (torch.int32 if name.endswith(".experts") else dtype):
            fail(f"{name}: {t.dtype}, want {dtype}")
        if not t.isfinite().all():
            fail(f"{name}: not finite")


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def write_trace(job, args, hashed, tokens, positions, stages, steps=()):
    """Writes the rows kept, and how they came about."""
    tensors = {"tokens": torch.tensor(tokens, dtype=torch.int32),
               "positions": torch.tensor(positions, dtype=torch.int32)}
    if steps:
        tensors["steps"] = torch.tensor(steps, dtype=torch.int32)
    tensors |= stages
    command = f"trace.py {job.checkpoint.name} --tokens {job.tokens} --precision {job.precision}"
    if job.positions:
        command += f" --positions {job.positions}"
    if job.steps:
        command += f" --steps {job.steps}"
    if job.first:
        command += f" --first {job.first}"
    command += f" --mlp-rows {args.mlp_rows} --threads {args.threads}"
    metadata = {
        "format": FORMAT,
        "precision": job.precision,
        "checkpoint": hashed,
        "command": command,
        "reference": f"gpt-oss {importlib.metadata.version('gpt-oss')}, model.py sha256 {REFERENCE[reference]}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": str(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled).lower(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": str(args.threads),
        "mlp_rows": str(args.mlp_rows),
    }
    if job.first:
        metadata["first"] = str(job.first)
    write_safetensors(job.output, tensors, metadata)
    print(f"{job.output}: {len(tensors)} tensors, {len(positions)} of {len(tokens)} positions, "
          f"{job.output.stat().st_size} bytes, sha256 {sha256_file(job.output)}", flush=True)


def trace(model, config, hashed, job, args):
    """Runs model on a job's tokens, watched and not, and writes what it showed."""
    tokens = parse_tokens(job.tokens, config.vocab_size)
    positions = kept(job, tokens)
    steps = kept_steps(job, positions)
    ids = torch.tensor(tokens, dtype=torch.int32)
    capture = Capture()
    with torch.inference_mode(), in_portions(args.mlp_rows), begun_at(job.first):
        plain = model(ids)
        with watched(model, capture, steps):
            logits = model(ids)
    if not same_bits(plain, logits):
        fail("the logits change when the model is watched")
    if args.check_portions:
        with torch.inference_mode(), begun_at(job.first):
            whole = model(ids)
        if not same_bits(whole, logits):
            fail(f"the logits change with --mlp-rows: {(whole != logits).float().mean():.2%} of them")
    stages = capture.stages()
    names = expected_stages(config.num_hidden_layers, steps)
    if set(stages) != set(names):
        fail(f"stages missing or unknown: {sorted(set(stages) ^ set(names))}")
    prove(stages, len(tokens), job.precision, steps)
    stages = select({name: stages[name] for name in names}, positions, steps)
    write_trace(job, args, hashed, tokens, positions, stages, steps)


def arguments(description):
    """What every program here takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="folder in the original/ layout")
    parser.add_argument("--tokens", help="1,2,5-9 or random:COUNT:SEED")
    parser.add_argument("--precision", choices=["bf16", "f32"])
    parser.add_argument("--positions", help="rows to keep, 0,1,126-129; default all")
    parser.add_argument("--steps", help="of the rows kept, those of which the steps within stages are "
                                        "kept too, or none; default all of them")
    parser.add_argument("--first", type=int, default=0,
                        help="position of the first token, which sees none before it (0)")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--mlp-rows", type=int, default=4, help="tokens the MLP gets at a time (4)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    return parser


def prepare(args, jobs):
    """Proves what jobs ask for, and that the reference is the published one; sets torch."""
    for module, digest in REFERENCE.items():
        if sha256_file(module.__file__) != digest:
            fail(f"{module.__name__} is not the file published as gpt-oss 0.0.9")
    for job in jobs:
        if not (job.checkpoint and job.tokens and job.precision and job.output):
            fail("want a checkpoint, --tokens, --precision and -o")
        if not (job.checkpoint / "config.json").is_file():
            fail(f"{job.checkpoint}: no config.json")
        if job.output.parent.resolve() == job.checkpoint.resolve():
            fail("the trace cannot lie in the checkpoint's folder: the reference reads every safetensors file there")
        if job.first < 0:
            fail("--first: want 0 or more")
    if args.mlp_rows < 1 or args.threads < 1:
        fail("--mlp-rows and --threads: want 1 or more")

    torch.manual_seed(0)  # nothing draws; should that change, it stays the same
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(args.threads)


def main():
    parser = arguments("Trace the PyTorch reference on a checkpoint.")
    parser.add_argument("--jobs", type=Path,
                        help="file with the arguments above, a trace a line: a checkpoint that "
                             "follows itself in one precision is loaded once")
    parser.add_argument("--check-portions", action="store_true",
                        help="fail unless all tokens at once give the same bits")
    args = parser.parse_args()
    jobs = [args]
    if args.jobs:
        jobs = [parser.parse_args(shlex.split(line)) for line in args.jobs.read_text().splitlines()]
    prepare(args, jobs)

    loaded = None
    for job in jobs:
        if loaded != (job.checkpoint, job.precision):
            loaded = (job.checkpoint, job.precision)
            config = reference.ModelConfig(**json.loads((job.checkpoint / "config.json").read_text()))
            model = reference.Transformer.from_checkpoint(str(job.checkpoint), device="cpu")
            if job.precision == "f32":
                model.float()  # exact: every bf16 is a float32
            hashed = checkpoint_hash(job.checkpoint)
        trace(model, config, hashed, job, args)


if __name__ == "__main__":
    main()
