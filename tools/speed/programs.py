"""What is compared, and where it lies: the checkpoint, its GGUFs, the programs."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = ["llama.cpp", "ik_llama.cpp"]
DENSE = ["bf16", "q8_0"]  # types of attention, embedding and unembedding in a GGUF


def arguments(parser):
    """The flags that every program here has."""
    parser.add_argument("--preset", default="20b", help="of ossify synth (20b)")
    parser.add_argument("--layers", type=int, help="only so many; without, the preset's")
    parser.add_argument("--data", type=Path, default=ROOT / "build/speed/data", help="folder for checkpoints and GGUFs: 40 GB for 20b")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, a,b (all that run.sh builds)")
    parser.add_argument("--dense", default=",".join(DENSE), help="types of dense weights in the peers' files, a,b (both)")


def first_to_go():
    """For a child to call before it starts: should memory run out, the measured program is what must end."""
    Path("/proc/self/oom_score_adj").write_text("500")


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
        self.peers = [p for p in args.peers.split(",") if p]
        self.dense = [d for d in args.dense.split(",") if d]
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

    def config(self):
        return json.loads((self.checkpoint() / "config.json").read_text())
