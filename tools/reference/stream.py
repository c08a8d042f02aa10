#!/usr/bin/env python3
"""Runs the PyPI gpt-oss reference on a checkpoint larger than the memory.

It writes the trace that trace.py writes, to the byte. The model is the published
one, its forward too; but the parameters of a part, an embedding, a block, come when
it begins and go when it ends, and experts are decoded one by one, as tokens are
routed to them, by a table that the published code makes. What a part showed is a
file in the state's folder, so that a run that was killed goes on with the part it
was at.
"""

import argparse
import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import torch
from safetensors import SafetensorError, safe_open
from torch.utils._python_dispatch import _disable_current_modes

import trace
from trace import reference, reference_weights


VERSION = 2  # of the parts' files; another one does not take them over


class Checkpoint(reference_weights.Checkpoint):
    """The published one, which can be asked for one expert too."""

    def __init__(self, path, precision):
        super().__init__(path, torch.device("cpu"))
        self.pairs = decoded_pairs(precision)

    def expert(self, name, e):
        """Expert e of a parameter [experts, out, in]. The reference decodes all of them at once."""
        blocks, scales = (self.slice(part, e) for part in reference_weights.PARAM_NAME_MAP[name])
        index = (scales.to(torch.int32) << 8).unsqueeze(-1) + blocks
        pairs = torch.index_select(self.pairs, 0, index.reshape(-1))
        dtype = torch.float32 if pairs.element_size() == 8 else torch.bfloat16
        return pairs.view(dtype).view(blocks.shape[0], -1)

    def slice(self, name, e):
        with safe_open(self.tensor_name_to_file[name], framework="pt") as f:
            return f.get_slice(name)[e]


def decoded_pairs(precision):
    """The two values of every byte under every scale, 256·scale + byte, by the published code."""
    every = torch.arange(256, dtype=torch.uint8)
    known = {"blocks": every.expand(256, 1, 256).contiguous(), "scales": every.reshape(256, 1)}
    published = object.__new__(reference_weights.Checkpoint)
    published.tensor_name_to_file, published._get_tensor = known, known.get
    values = published._get_mxfp4_tensor("blocks", "scales").reshape(65536, 2)
    if precision == "f32":
        return values.float().view(torch.int64).view(-1)
    return values.view(torch.int32).view(-1)


class Experts:
    """Stands for a parameter [experts, out, in] of an MLPBlock, which asks it for
    the weights of the experts of its rows: the same values, gathered in the same
    form. It keeps at most so many experts."""

    def __init__(self, decode, keep, buffers, name):
        self.decode, self.keep, self.buffers, self.name = decode, keep, buffers, name
        self.have = {}  # expert -> [out, in], the one that was asked for last at the end

    def __getitem__(self, key):
        indices, rest = key
        if rest is not Ellipsis:
            raise IndexError(f"{self.name}: want [indices, ...], as the published model has it")
        with _disable_current_modes():  # decoding is none of the operators that are watched
            return self.gathered(indices)

    def gathered(self, indices):
        chosen = indices.flatten().tolist()
        out = None
        for e in dict.fromkeys(chosen):
            weight = self.have.pop(e, None)
            if weight is None:
                while len(self.have) >= self.keep:
                    del self.have[next(iter(self.have))]
                weight = self.decode(e)
            self.have[e] = weight
            if out is None:
                out = self.buffer(len(chosen), weight)
            for i, other in enumerate(chosen):
                if other == e:
                    out[i].copy_(weight)
        return out.view(*indices.shape, *out.shape[1:])

    def buffer(self, count, weight):
        """Memory for a gathered tensor, the same each time: its last one is no longer read."""
        have = self.buffers.get(self.name)
        if have is None or have.shape[0] < count:
            have = self.buffers[self.name] = torch.empty(count, *weight.shape, dtype=weight.dtype)
        return have[:count]


def parts(model):
    """What is loaded and run at a time, in the order of the published forward."""
    yield "embedding", model.embedding
    for n, block in enumerate(model.block):
        yield f"block.{n}", block
    yield "norm", model.norm
    yield "unembedding", model.unembedding


@contextlib.contextmanager
def loaded(path, module, checkpoint, precision, memory, buffers):
    """A part with its parameters, inside; outside it has shapes only."""
    shapes = dict(module.named_parameters())

    def converted(t):
        return t.float() if precision == "f32" else t

    for name, shape in shapes.items():
        owner, _, leaf = name.rpartition(".")
        owner, full = module.get_submodule(owner), f"{path}.{name}"
        if isinstance(reference_weights.PARAM_NAME_MAP.get(full), tuple):
            keep = max(1, int(memory / 2 / (shape[0].numel() * (4 if precision == "f32" else 2))))
            delattr(owner, leaf)  # a parameter's name takes parameters only
            setattr(owner, leaf, Experts(lambda e, full=full: checkpoint.expert(full, e), keep, buffers, leaf))
        else:
            t = torch.empty_like(shape, device="cpu").copy_(checkpoint.get(full))  # as from_checkpoint
            setattr(owner, leaf, torch.nn.Parameter(converted(t), requires_grad=False))
    try:
        yield
    finally:
        for name, shape in shapes.items():
            owner, _, leaf = name.rpartition(".")
            owner = module.get_submodule(owner)
            delattr(owner, leaf)
            setattr(owner, leaf, shape)


@contextlib.contextmanager
def first_portion(rows):
    """Has every MLPBlock compute the first of its portions only, inside."""

    def first(self, x, forward=published_mlp):
        return forward(self, x.tensor_split(-(-x.shape[0] // rows))[0])

    with mock.patch.object(reference.MLPBlock, "forward", first):
        yield


published_mlp = reference.MLPBlock.forward


class Progress:
    """A bar on a terminal, else a line for each part."""

    def __init__(self, what, total):
        self.what, self.total, self.done, self.at = what, total, 0, 0.0
        self.start, self.worked = time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def draw(self, path, share):
        """Says that a share of the part at path is done."""
        now = time.monotonic()
        if not self.terminal or now - self.at < 0.1:
            return
        self.at = now
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        except OSError:
            width = 80
        done = self.done + share
        text = f"{self.what} {done / self.total:4.0%}, {path}"
        if self.worked >= 1:
            left = (self.total - done) / self.worked * (now - self.start)
            text += f", {left / 60:.0f} min left"
        room = min(40, width - len(text) - 4)
        if room >= 10:
            full = int(done / self.total * room)
            text += " [" + "=" * full + " " * (room - full) + "]"
        sys.stderr.write("\r" + text[:width - 1] + "\x1b[K")
        sys.stderr.flush()

    def finish(self, path, seconds, played):
        self.done += 1
        if not played:
            self.worked += 1
        if not self.terminal:
            how = "done before" if played else f"{seconds:.1f} s, peak {peak() / 1e9:.1f} GB"
            print(f"{self.what}: {path}: {how}", file=sys.stderr, flush=True)

    def clear(self):
        if self.terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def peak():
    """The most memory that this process had, mapped files included, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stream:
    """The published model, with streamed parts that leave files in a folder."""

    def __init__(self, args, config, folder, key, tokens, positions, steps):
        self.args, self.folder, self.key = args, folder, key
        self.tokens, self.positions, self.steps = tokens, positions, steps
        self.checkpoint = Checkpoint(str(args.checkpoint), args.precision)
        self.buffers = {}
        self.stages, self.routing = {}, {}
        self.seconds, self.peak = 0.0, 0
        with torch.device("meta"):
            self.model = reference.Transformer(config, device=torch.device("meta")).eval()
        for module in self.model.modules():
            if isinstance(module, reference.RotaryEmbedding):
                module.device = torch.device("cpu")
        self.progress = Progress(f"pytorch {args.precision}", sum(1 for _ in parts(self.model)))

    def run(self):
        for path, module in parts(self.model):
            module.forward = lambda x, path=path, module=module: self.part(path, module, x)
        args = self.args
        with torch.inference_mode(), trace.in_portions(args.mlp_rows), trace.begun_at(args.first):
            self.model(torch.tensor(self.tokens, dtype=torch.int32))
        self.progress.clear()

    def part(self, path, module, x):
        """What the part computes of x: played from its file, else computed and written there."""
        file = self.folder / f"{path}.safetensors"
        saved = self.read(file)
        played = saved is not None
        seconds = 0.0
        if not played:
            start = time.monotonic()
            tensors = self.compute(path, module, x)
            seconds = time.monotonic() - start
            trace.write_safetensors(file, tensors, {"key": self.key, "seconds": f"{seconds:.1f}", "peak_rss": str(peak())})
            saved = self.read(file)
        tensors, metadata = saved
        self.seconds += float(metadata["seconds"])
        self.peak = max(self.peak, int(metadata["peak_rss"]))
        for name, t in tensors.items():
            if name.startswith("all:"):
                self.routing[name[4:]] = t
            elif name != "out":
                self.stages[name] = t
        self.progress.finish(path, seconds, played)
        return tensors["out"]

    def read(self, file):
        """A part's file, unless there is none of this run."""
        try:
            with safe_open(file, framework="pt") as f:
                metadata = f.metadata() or {}
                if metadata.get("key") == self.key:
                    return {name: f.get_tensor(name) for name in f.keys()}, metadata
        except (OSError, SafetensorError):
            pass
        return None

    def compute(self, path, module, x):
        """Runs a part, watched and not, and returns what its file holds."""
        args, capture = self.args, trace.Capture()
        streamed = module.__dict__.pop("forward")  # the class's own is in view now
        portions = -(-len(self.tokens) // args.mlp_rows)
        asked = 0

        def watch_swiglu(*arguments, original=reference.swiglu, **options):
            nonlocal asked
            asked += 1
            self.progress.draw(path, min(1, asked / (portions + 1)))
            return original(*arguments, **options)

        self.progress.draw(path, 0)
        try:
            with loaded(path, module, self.checkpoint, args.precision, args.expert_memory * 1e9, self.buffers), \
                    mock.patch.object(reference, "swiglu", watch_swiglu):
                with first_portion(args.mlp_rows):
                    plain = module(x)
                with trace.watched(self.model, capture, self.steps):
                    out = module(x)
        finally:
            module.forward = streamed
        if not trace.same_bits(plain, out[:plain.shape[0]]):
            trace.fail(f"{path}: its values change when the model is watched")
        stages = capture.stages()
        names = trace.expected_stages(len(self.model.block), self.steps)
        want = [name for name in names if name == path or name.startswith(path + ".")]
        if set(stages) != set(want):
            trace.fail(f"{path}: stages missing or unknown: {sorted(set(stages) ^ set(want))}")
        trace.prove(stages, len(self.tokens), args.precision, self.steps)
        every = {f"all:{name}": stages[name] for name in want if name.endswith((".mlp.gate", ".mlp.experts"))}
        kept = trace.select({name: stages[name] for name in want}, self.positions, self.steps)
        return kept | every | {"out": out[-1:] if path == "unembedding" else out}


def plan(tokens, rows, window):
    """Which of so many tokens' rows are kept: the first two, those beside the window's
    edge, the last two, and others evenly between, as many as rows in all."""
    edges = {0, 1, window - 1, window, window + 1, tokens - 2, tokens - 1}
    chosen = {p for p in edges if 0 <= p < tokens}
    parts = 2
    while len(chosen) < min(rows, tokens):
        chosen |= {i * tokens // parts for i in range(1, parts)}
        parts += 1
    return sorted(chosen)


def state_key(args, hashed, tokens, positions, steps):
    """Names a run by all that its bits depend on."""
    what = {
        "version": VERSION, "format": trace.FORMAT, "checkpoint": hashed, "tokens": tokens,
        "positions": positions, "steps": steps, "first": args.first,
        "precision": args.precision, "mlp_rows": args.mlp_rows, "threads": args.threads,
        "reference": [trace.REFERENCE[m] for m in (reference, reference_weights)],
        "torch": torch.__version__, "cpu": trace.cpu_name(), "capability": torch.backends.cpu.get_cpu_capability(),
    }
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def hash_once(folder, state):
    """The checkpoint's hash, remembered for as long as its files have the same sizes and times."""
    files = sorted(p for p in folder.iterdir() if p.name.endswith(".safetensors") or p.name == "config.json")
    seen = [[p.name, p.stat().st_size, p.stat().st_mtime_ns, p.stat().st_ino] for p in files]
    file = state / "checkpoint.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(file.read_text())
        if known["files"] == seen:
            return known["hash"]
    if sys.stderr.isatty():
        sys.stderr.write("\rhash of the checkpoint ...\x1b[K")
    hashed = trace.checkpoint_hash(folder)
    write_text(file, json.dumps({"files": seen, "hash": hashed}))
    return hashed


def write_text(path, text):
    """Writes a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main():
    parser = trace.arguments("Trace the PyTorch reference, a part of the model at a time.")
    parser.add_argument("--state", type=Path, required=True,
                        help="folder for what is done so far; a run that was killed goes on from there")
    parser.add_argument("--rows", type=int, help="instead of --positions: about so many, at edges and between")
    parser.add_argument("--routing", type=Path, help="also write gate and choice of experts of every position there")
    parser.add_argument("--expert-memory", type=float, default=6,
                        help="decoded experts of a block that are kept, GB (6); fewer are decoded more often")
    args = parser.parse_args()
    trace.prepare(args, [args])
    if not args.expert_memory > 0:
        trace.fail("--expert-memory: want more than 0")
    for file in filter(None, [args.routing]):
        if file.parent.resolve() == args.checkpoint.resolve():
            trace.fail("--routing cannot lie in the checkpoint's folder")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    config = reference.ModelConfig(**json.loads((args.checkpoint / "config.json").read_text()))
    tokens = trace.parse_tokens(args.tokens, config.vocab_size)
    if args.rows and args.rows < len(tokens):
        if args.positions or args.rows < 1:
            trace.fail("--rows: want 1 or more, and no --positions beside it")
        args.positions = ",".join(map(str, plan(len(tokens), args.rows, config.sliding_window)))
    positions = trace.kept(args, tokens)
    steps = trace.kept_steps(args, positions)
    args.state.mkdir(parents=True, exist_ok=True)
    hashed = hash_once(args.checkpoint, args.state)
    key = state_key(args, hashed, tokens, positions, steps)
    folder = args.state / f"{args.precision}-{key[:16]}"
    folder.mkdir(exist_ok=True)
    stream = Stream(args, config, folder, key, tokens, positions, steps)
    try:
        stream.run()
    except KeyboardInterrupt:
        stream.progress.clear()
        print(f"stream.py: interrupted; {folder} has what is done, the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    names = trace.expected_stages(config.num_hidden_layers, steps)
    trace.write_trace(args, args, hashed, tokens, positions, {name: stream.stages[name] for name in names}, steps)
    if args.routing:
        routing = argparse.Namespace(**vars(args) | {"output": args.routing, "positions": None, "steps": None})
        stages = {name: stream.routing[name] for name in names if name in stream.routing}
        trace.write_trace(routing, args, hashed, tokens, list(range(len(tokens))), stages)
    print(f"{args.output}: {stream.seconds:.0f} s in parts, peak memory {stream.peak / 1e9:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
