#!/usr/bin/env python3
"""Times ossify and its peers on one checkpoint, in turns: prefill of 512 and 128 tokens, decode of 64.

Each round runs every program once, so that what disturbs the machine meets all of them alike. Beside
each run stands how much of the processors others took meanwhile, and the read bandwidth that ossify's
own bench measured in the same round. Medians, least and most over the rounds are printed; ratios are
medians of each round's own ratio. Started by run.sh.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import programs

PREFILL, DECODE = (512, 128), 64
TOGETHER = 24  # tokens of each of several sessions
TESTS = [*(f"prefill {n}" for n in PREFILL), f"decode {DECODE}"]
TICK = os.sysconf("SC_CLK_TCK")


def busy():
    """Processor seconds that the whole machine has spent since it started."""
    user, nice, system, idle, wait, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / TICK


def run(command, log, parse=json.loads):
    """Runs command; what it printed, parsed, peak RSS in bytes, and the share of the processors that others took."""
    with open(log, "w") as err:
        before, start = busy(), time.monotonic()
        child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=err, preexec_fn=programs.first_to_go)
        out = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
    if child.returncode != 0:
        raise RuntimeError(f"exit {child.returncode}: {(log.read_text().strip().splitlines() or ['nothing said'])[-1]}")
    others = busy() - before - usage.ru_utime - usage.ru_stime
    return parse(out), usage.ru_maxrss * 1024, max(0, others / seconds / os.cpu_count())


def warm(*paths):
    """Reads files once, so that a program finds them in the page cache, as far as they fit."""
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 24):
                pass


@dataclass
class Program:
    name: str
    weights: str
    runs: list = field(default_factory=list)  # of each round: {test: tokens a second, "rss", "others"}
    failure: str = ""
    about: dict = field(default_factory=dict)

    def of(self, test):
        return [r[test] for r in self.runs if test in r]


class Ossify(Program):
    """ossify bench: a warm-up, then the runs that count; prefill from nothing, decode after 16 tokens."""

    def __init__(self, setup, name="ossify", *options):
        super().__init__(name, "bf16")
        self.setup, self.options = setup, options

    def round(self, log):
        args, checkpoint = self.setup.args, self.setup.checkpoint()
        warm(*checkpoint.glob("*.safetensors"))
        command = [self.setup.ossify, "bench", checkpoint, "--threads", args.threads, "--runs", args.repeat, "--json", *self.options]
        result = {}
        for n in PREFILL:
            first = n == PREFILL[0]  # decode is measured beside it
            report, _, others = run([*command, "-p", n, "-n", DECODE if first else 0], log)
            result[f"prefill {n}"] = statistics.median(report["prefill"]["tok_s"])
            if first:
                result |= {f"decode {DECODE}": statistics.median(report["decode"]["tok_s"]), "rss": report["peak_rss_bytes"], "others": others}
                result |= {k: report[k] for k in ("bandwidth_gbs", "bytes_per_token", "bandwidth_share", "ttft_s", "load_s")}
                self.about = {k: report[k] for k in ("kernels", "precision")}
        return result


class Screened(Ossify):
    """ossify's decode with a screened unembedding, with other options too or without: the same tokens, of fewer bytes."""

    def round(self, log):
        args, checkpoint = self.setup.args, self.setup.checkpoint()
        warm(*checkpoint.glob("*.safetensors"))
        command = [self.setup.ossify, "bench", checkpoint, "--threads", args.threads, "--runs", args.repeat, "--json", *self.options]
        report, _, others = run([*command, "-p", 0, "-n", DECODE, "--screen"], log)
        return {f"decode {DECODE}": statistics.median(report["decode_screened"]["tok_s"]), "rss": report["peak_rss_bytes"], "others": others}


class Together(Ossify):
    """ossify's decode of several sessions together, and of one: both in the same run."""

    def round(self, log):
        args, checkpoint = self.setup.args, self.setup.checkpoint()
        warm(*checkpoint.glob("*.safetensors"))
        command = [self.setup.ossify, "bench", checkpoint, "--threads", args.threads, "--runs", args.repeat, "--json", *self.options]
        report, _, others = run([*command, "-p", 0, "-n", TOGETHER, "--sessions", args.sessions], log)
        result = {k: report[k] for k in ("bandwidth_gbs", "bytes_per_token", "bandwidth_share", "ttft_s", "load_s")}
        return result | {"one": statistics.median(report["decode"]["tok_s"]), "together": statistics.median(report["decode_sessions"]["tok_s"]),
                         "rss": report["peak_rss_bytes"], "others": others}


class LlamaTogether(Program):
    """llama-batched-bench: one sequence and several, after 16 tokens each."""

    def __init__(self, setup, dense):
        super().__init__("llama.cpp", dense)
        self.setup, self.dense = setup, dense

    def round(self, log):
        args, gguf = self.setup.args, self.setup.gguf(self.dense)
        warm(gguf)
        counts = [1, args.sessions] * args.repeat
        command = [self.setup.work / "llama.cpp/bin/llama-batched-bench", "-m", gguf, "-t", args.threads, "-tb", args.threads, "-c", args.sessions * 64,
                   "-npp", 16, "-ntg", TOGETHER, "-npl", ",".join(map(str, counts)), "--output-format", "jsonl"]
        lines, rss, others = run(command, log, lambda out: [json.loads(line) for line in out.splitlines() if line.startswith(b"{")])
        if [line["pl"] for line in lines] != counts:
            raise RuntimeError(f"measured {[line['pl'] for line in lines]} sequences, want {counts}")
        rates = {n: statistics.median(line["speed_tg"] for line in lines if line["pl"] == n) for n in counts}
        return {"one": rates[1], "together": rates[args.sessions], "rss": rss, "others": others}


class Llama(Program):
    """A llama-bench: before each test a warm-up; prefill and decode from nothing."""

    def __init__(self, setup, peer, dense, note="", *options):
        super().__init__(peer + note, dense)
        self.setup, self.peer, self.dense, self.options = setup, peer, dense, options

    def round(self, log):
        gguf = self.setup.gguf(self.dense)
        warm(gguf)
        command = [self.setup.work / self.peer / "bin/llama-bench", "-m", gguf, "-t", self.setup.args.threads, "-r", self.setup.args.repeat,
                   "-p", ",".join(map(str, PREFILL)), "-n", DECODE, "-o", "json", *self.options]
        report, rss, others = run(command, log)
        result = {"rss": rss, "others": others}
        for test in report:
            name = f"decode {test['n_gen']}" if test["n_gen"] else f"prefill {test['n_prompt']}"
            result[name] = statistics.median(test["samples_ts"])
        self.about = {"cpu": report[0].get("cpu_info")}
        return result


class Onnx(Program):
    """ONNX Runtime from Python: the exported model, or one of onnxruntime-genai's packages."""

    def __init__(self, setup, name, weights, model, *options, environment=()):
        super().__init__(name, weights)
        self.setup, self.model, self.options, self.environment = setup, model, options, environment

    def round(self, log):
        model = self.model()
        warm(*(model if model.is_dir() else model.parent).glob("*.data" if model.is_dir() else "*.safetensors"))
        command = [*self.environment, self.setup.python, programs.HERE / "onnx_bench.py", model, "--threads", self.setup.args.threads,
                   "--prefill", ",".join(map(str, PREFILL)), "--decode", DECODE, "--repeat", self.setup.args.repeat, *self.options]
        report, rss, others = run(command, log)
        self.about = report.pop("versions")
        return {k: statistics.median(v) if isinstance(v, list) else v for k, v in report.items()} | {"rss": rss, "others": others}


class Torch(Program):
    """transformers on PyTorch, which takes all weights as bfloat16: four times the experts' bytes."""

    def __init__(self, setup):
        super().__init__("PyTorch", "bf16, experts too")
        self.setup = setup

    def round(self, log):
        checkpoint = self.setup.checkpoint("hf")
        warm(*checkpoint.glob("*.safetensors"))
        command = [self.setup.work / "torch/bin/python", programs.HERE / "torch_bench.py", checkpoint, "--threads", self.setup.args.threads,
                   "--prefill", ",".join(map(str, PREFILL)), "--decode", DECODE, "--repeat", self.setup.args.repeat]
        report, rss, others = run(command, log)
        self.about = report.pop("versions")
        return {name: statistics.median(values) for name, values in report.items()} | {"rss": rss, "others": others}


def spread(values, digits):
    if not values:
        return ""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(ours, theirs, test):
    pairs = [a[test] / b[test] for a, b in zip(ours.runs, theirs.runs) if test in a and test in b]
    return f"{statistics.median(pairs):.2f}" if pairs else ""


def table(everyone, tests=TESTS):
    ours = next((p for p in everyone if isinstance(p, Ossify)), None)
    lines = [f"| program | dense weights | {' | '.join(t + ', tokens/s' for t in tests)} | {ours.name if ours else 'ossify'} ÷ it: {' | '.join(tests)} | loaded in, s | peak RSS, GB | of it own | others took |",
             "|---|---|" + "---:|" * (2 * len(tests) + 4)]
    for p in everyone:
        if p.failure:
            lines.append(f"| {p.name} | {p.weights} | fails: `{p.failure}` |" + "|" * (2 * len(tests) + 3))
        elif p.runs:
            cells = [spread(p.of(t), 1 if statistics.median(p.of(t) or [0]) >= 20 else 2) for t in tests]
            cells += [ratio(ours, p, t) if ours and p is not ours else "" for t in tests]
            cells += [spread(p.of("load_s"), 2), f"{statistics.median(p.of('rss')) / 1e9:.1f}", spread([own / 1e9 for own in p.of("own")], 2), f"{statistics.median(p.of('others')):.0%}"]
            lines.append(f"| {p.name} | {p.weights} | {' | '.join(cells)} |")
    if ours and ours.runs:
        lines += ["", f"Read bandwidth {spread(ours.of('bandwidth_gbs'), 1)} GB/s; {ours.runs[0]['bytes_per_token'] / 1e9:.2f} GB a decoded token: "
                  f"ossify's decode is {spread(ours.of('bandwidth_share'), 2)} of what it allows; first token after {spread(ours.of('ttft_s'), 1)} s, "
                  f"loaded in {spread(ours.of('load_s'), 2)} s."]
    return "\n".join(lines) + "\n"


def about(args, setup, everyone):
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = (setup.work / "versions.txt").read_text().split("\n")
    return {"date": datetime.date.today().isoformat(), "model": setup.name, "rounds": args.rounds, "threads": args.threads,
            "processor": f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}", "memory_gb": round(memory),
            "versions": [v for v in versions if v], "load_at_start": os.getloadavg()[0],
            "programs": {f"{p.name}, {p.weights}": p.about for p in everyone if p.about}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    programs.arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=2, help="runs of a peer in each round, after one to warm up")
    parser.add_argument("--torch", action="store_true", help="PyTorch too: with --layers, for it wants 1.6 GB a layer")
    parser.add_argument("--avx2", action="store_true", help="ossify and llama.cpp with AVX2 alone, and nothing else")
    parser.add_argument("--sessions", type=int, help="decode of so many sessions together and of one, and nothing else")
    parser.add_argument("--no-ossify", action="store_true", help="peers only")
    args = parser.parse_args()
    if args.sessions is not None and args.sessions < 2:
        parser.error(f"--sessions {args.sessions}, want 2 or more")
    setup = programs.Setup(args)

    if args.avx2:
        everyone = [Ossify(setup, "ossify, avx2", "--set", "avx2"), *(Llama(setup, "llama.cpp-avx2", dense) for dense in setup.dense)]
    elif args.sessions:
        everyone = [Together(setup), Together(setup, "ossify, held", "--hold"), *(LlamaTogether(setup, dense) for dense in setup.dense)]
    elif args.onnx:
        # Float32 first: what the others are compared with, for exports compute in it.
        everyone = [Ossify(setup, "ossify f32", "--precision", "f32"), Ossify(setup, "ossify bf16"),
                    Onnx(setup, "ONNX Runtime, operator library", "bf16", setup.onnx, "--library", setup.library),
                    Onnx(setup, "ONNX Runtime", "bf16", setup.onnx),
                    *(Onnx(setup, "onnxruntime-genai", f"{p}, experts too", lambda p=p: setup.package(p)) for p in setup.packages),
                    *(Llama(setup, peer, dense) for dense in setup.dense for peer in setup.peers)]
        if "int4" in setup.packages:  # its experts by a faster way, which ONNX Runtime has but does not take by itself
            everyone.append(Onnx(setup, "onnxruntime-genai, ORT_USE_MLAS_Q4_GEMM_MOE=1", "int4, experts too", lambda: setup.package("int4"), environment=["env", "ORT_USE_MLAS_Q4_GEMM_MOE=1"]))
    else:
        packed = ["--pack", "--hold"]
        everyone = [] if args.no_ossify else [
            Ossify(setup), Ossify(setup, "ossify, packed", *packed),
            Screened(setup, "ossify, screened"), Screened(setup, "ossify, packed and screened", *packed)]
        for dense in setup.dense:
            for peer in setup.peers:
                everyone.append(Llama(setup, peer, dense))
                if peer == "ik_llama.cpp":
                    everyone.append(Llama(setup, peer, dense, ", repacked", "-rtr", "1"))
    if args.torch:
        everyone.append(Torch(setup))

    tests = ["one", "together"] if args.sessions else TESTS
    name = "speed-avx2" if args.avx2 else "speed-sessions" if args.sessions else "speed-onnx" if args.onnx else "speed"
    for n in range(args.rounds):
        for p in everyone:
            if p.failure:
                continue
            log = setup.results / (re.sub(r"\W+", "-", f"{p.name} {p.weights}") + ".log")
            try:
                p.runs.append(p.round(log))
            except (RuntimeError, subprocess.CalledProcessError) as e:
                p.failure = str(e)
            done = p.failure or ", ".join(f"{t} {p.runs[-1].get(t, 0):.2f}" for t in tests) + f", others {p.runs[-1]['others']:.0%}"
            print(f"round {n + 1}, {p.name}, {p.weights}: {done}", file=sys.stderr, flush=True)
            report = about(args, setup, everyone) | {"runs": [{"program": q.name, "dense": q.weights, "failure": q.failure, "rounds": q.runs} for q in everyone]}
            (setup.results / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
            (setup.results / f"{name}.md").write_text(table(everyone, tests))
    print((setup.results / f"{name}.md").read_text())
    if any(p.failure for p in everyone):
        sys.exit(1)


if __name__ == "__main__":
    main()
