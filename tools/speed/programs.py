"""What is compared, and where it lies: the checkpoint, its GGUFs, the programs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = ["llama.cpp", "ik_llama.cpp"]
DENSE = ["bf16", "q8_0"]  # types of attention, embedding and unembedding in a GGUF
PACKAGES = ["int4", "int8"]  # of onnxruntime-genai's builder for the CPU


def arguments(parser):
    """The flags that every program here has."""
    parser.add_argument("--preset", default="20b", help="of ossify synth (20b)")
    parser.add_argument("--layers", type=int, help="only so many; without, the preset's")
    parser.add_argument("--data", type=Path, default=ROOT / "build/speed/data", help="folder for checkpoints and GGUFs: 40 GB for 20b")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, a,b (all that run.sh builds)")
    parser.add_argument("--onnx", action="store_true", help="the exported model in ONNX Runtime, and onnxruntime-genai's packages: with --layers, for the builder takes all weights as bfloat16")
    parser.add_argument("--packages", default=",".join(PACKAGES), help="of onnxruntime-genai, a,b (both)")
    parser.add_argument("--dense", default=",".join(DENSE), help="types of dense weights in the peers' files, a,b (both)")


def first_to_go():
    """For a child to call before it starts: should memory run out, the measured program is what must end."""
    Path("/proc/self/oom_score_adj").write_text("500")


def words(checkpoint):
    """Gives a checkpoint the tokenizer that the builder asks for, and nothing here uses."""
    vocab = {f"<{i}>": i for i in range(json.loads((checkpoint / "config.json").read_text())["vocab_size"])}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<0>"}
    (checkpoint / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<0>", "unk_token": "<0>"}))


class Setup:
    """Files of one comparison, made when they are first asked for."""

    def __init__(self, args):
        self.args = args
        self.work = ROOT / "build/speed"
        self.name = args.preset + (f"-{args.layers}" if args.layers else "")
        self.results = self.work / self.name
        self.results.mkdir(parents=True, exist_ok=True)
        args.data.mkdir(parents=True, exist_ok=True)
        self.ossify = self.work / "ossify"
        self.python = self.work / "onnx/bin/python"
        self.library = ROOT / "bin/libossify_ort.so"
        self.peers = [p for p in args.peers.split(",") if p]
        self.dense = [d for d in args.dense.split(",") if d]
        self.packages = [p for p in args.packages.split(",") if p]
        for p in self.packages:
            if p not in PACKAGES:
                sys.exit(f"--packages {p}: want one of {', '.join(PACKAGES)}")
        for d in self.dense:
            if d not in DENSE:
                sys.exit(f"--dense {d}: want one of {', '.join(DENSE)}")
        for p in self.peers:
            if p not in PEERS:
                sys.exit(f"--peers {p}: want one of {', '.join(PEERS)}")

    def checkpoint(self, layout="original"):
        """The synthetic checkpoint, of seed 1: of one seed both layouts hold the same values."""
        path = self.args.data / (self.name + ("" if layout == "original" else "-" + layout))
        if not (path / "config.json").exists():
            layers = ["--layers", str(self.args.layers)] if self.args.layers else []
            subprocess.run([self.ossify, "synth", "--preset", self.args.preset, *layers, "--layout", layout, "--seed", "1", path], check=True)
        return path

    def gguf(self, dense):
        path = self.args.data / f"{self.name}-{dense}.gguf"
        if not path.exists():
            subprocess.run([sys.executable, HERE / "to_gguf.py", self.checkpoint(), path, "--dense", dense], check=True)
        return path

    def onnx(self):
        """The exported model, beside the checkpoint to whose bytes it refers; logits of the last position."""
        path = self.checkpoint() / "model.onnx"
        if not path.exists():
            subprocess.run([self.ossify, "export", self.checkpoint(), "--in-place", "--last"], check=True, stdout=subprocess.DEVNULL)
        return path

    def package(self, precision):
        """onnxruntime-genai's own package, by its model builder, with attention, embeddings and experts of that precision."""
        path = self.args.data / f"{self.name}-genai-{precision}"
        if not path.exists():
            checkpoint, made = self.checkpoint("hf"), path.with_suffix(".made")
            shutil.rmtree(made, ignore_errors=True)
            words(checkpoint)
            with open(self.results / f"genai-{precision}-builder.log", "w") as log:
                subprocess.run([self.python, "-m", "onnxruntime_genai.models.builder", "-m", "hf", "-i", checkpoint, "-o", made, "-p", precision, "-e", "cpu",
                                "-c", self.args.data / "genai-cache", "--extra_options", f"moe_quant_type={precision}", "prune_lm_head=true"],
                               check=True, stdout=log, stderr=log, preexec_fn=lambda: (first_to_go(), os.nice(10)))
            made.rename(path)
        return path

    def config(self):
        return json.loads((self.checkpoint() / "config.json").read_text())
