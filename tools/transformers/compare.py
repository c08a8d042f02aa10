"""Compare ossify with transformers' own gpt-oss on a checkpoint in its layout.

    compare.py OSSIFY DIR

DIR is `ossify synth --preset tiny --layout hf`. Two parts:

Logits. For lengths around one token and around the window, in f32 and bf16,
transformers' logits and ossify's are held against float64's (`ossify trace
--precision f64`). Both windows, 16 as tiny has it and 128 as published.

Configurations. Each edit of config.json in gptoss/testdata/config-variants.json
that leaves the weights' shapes alone is run in transformers: an accepted one
must give the logits of no edit (the same bits, or float32's errors of them), an
honoured one other logits, and ossify's; a refused one must be refused by
ossify, whatever transformers does. A release that does not know a key has no
say in it.

Exit code 1 if anything differs.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, Mxfp4Config  # noqa: E402

LENGTHS = (1, 2, 127, 128, 129, 130, 257)
RELEASE = tuple(int(n) for n in re.findall(r"\d+", transformers.__version__)[:2])

# Both sides round the same sums in other orders, so that the largest of their
# errors are alike: three binary digits between them are luck, more is a fault.
F32_FACTOR = 8
# In bf16 transformers rounds at other places than OpenAI's model, whose places
# are ossify's: norms stay in float32, weighted experts are rounded once more.
BF16_FACTOR = 2

# Keys on which shapes of the weights depend, or their number.
SHAPES = {
    "num_hidden_layers", "num_local_experts", "num_experts", "hidden_size", "intermediate_size", "vocab_size",
    "head_dim", "num_attention_heads", "num_key_value_heads", "layer_types", "per_layer_config", "model_type",
    "quantization_config", "quantization_config.quant_method", "tie_word_embeddings", "attention_bias",
}


def load(folder, precision):
    """transformers' model in evaluation mode."""
    name = "torch_dtype" if RELEASE < (4, 56) else "dtype"
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", quantization_config=Mxfp4Config(dequantize=True), **{name: torch.bfloat16}
    )
    if precision == "f32":
        model = model.float()
    return model.eval()


def theirs(model, ids, prefill=None):
    """Logits [T, Vocab]; with prefill, the tokens after that many come one by one through the cache."""
    with torch.no_grad():
        if prefill is None:
            return model(torch.tensor([ids])).logits[0].double()
        out = model(torch.tensor([ids[:prefill]]), use_cache=True)
        rows = [out.logits[0]]
        for i in range(prefill, len(ids)):
            out = model(torch.tensor([ids[i : i + 1]]), past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[0])
        return torch.cat(rows).double()


def ours(ossify, folder, ids, precision):
    """Logits [T, Vocab] of ossify."""
    with tempfile.TemporaryDirectory() as tmp:
        file = os.path.join(tmp, "trace.safetensors")
        subprocess.run(
            [ossify, "trace", folder, "--tokens-file", "-", "--precision", precision, "--stages", "unembedding", "--no-hash", "-o", file],
            input=" ".join(map(str, ids)), text=True, check=True,
        )
        return load_file(file)["unembedding"].double()


def tokens(count, vocab):
    """The same ids on every machine, by splitmix64."""
    state, ids = 1, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        ids.append((z ^ z >> 31) % vocab)
    return ids


def rms(x):
    return x.square().mean().sqrt().item()


def judge(want, got, own, precision):
    """Whether got is as near to want as own is, and the figures."""
    largest, ours_largest = (got - want).abs().max().item(), (own - want).abs().max().item()
    top = (got.argmax(-1) == want.argmax(-1)).sum().item()
    if precision == "f32":
        ok = largest <= F32_FACTOR * ours_largest
    else:
        ok = rms(got - want) <= BF16_FACTOR * rms(own - want)
    text = (
        f"largest error {largest:8.1e}, ossify's {ours_largest:8.1e}; rms {rms(got - want):8.1e}, ossify's {rms(own - want):8.1e}; "
        f"top token {top}/{len(want)}; {'pass' if ok else 'FAIL'}"
    )
    return ok, text


def logits(ossify, folder):
    """The first part. Returns the failures."""
    failures = 0
    config = json.loads((folder / "config.json").read_text())
    for window in (config["sliding_window"], 128):
        with tempfile.TemporaryDirectory() as tmp:
            at = copy(folder, pathlib.Path(tmp) / "model", dict(config, sliding_window=window))
            for precision in ("f32", "bf16"):
                model = load(at, precision)
                for count in LENGTHS:
                    ids = tokens(count, config["vocab_size"])
                    want, own = (ours(ossify, at, ids, p) for p in ("f64", precision))
                    ok, text = judge(want, theirs(model, ids), own, precision)
                    print(f"{precision:4} window {window:3} {count:3} tokens  {text}", flush=True)
                    failures += not ok
                ok, text = judge(want, theirs(model, ids, prefill=100), own, precision)
                print(f"{precision:4} window {window:3} {count:3} cached  {text}", flush=True)
                failures += not ok
    return failures


def copy(folder, to, config):
    """A folder with the same weights and another configuration."""
    shutil.copytree(folder, to)
    (to / "config.json").write_text(json.dumps(config))
    return to


def edited(config, variant):
    """The configuration with a variant's keys set and dropped."""
    config = json.loads(json.dumps(config))

    def place(key):
        outer, _, inner = key.rpartition(".")
        return (config[outer] if outer else config), inner

    for key, value in variant.get("set", {}).items():
        at, key = place(key)
        at[key] = value
    for key in variant.get("drop", []):
        at, key = place(key)
        del at[key]
    return config


def outcome(at, ids, base):
    """What transformers makes of a configuration: logits, or an error, and a word for it."""
    try:
        got = theirs(load(at, "f32"), ids, prefill=len(ids) - 4)
    except Exception as e:  # any: this is what is asked
        return None, f"transformers raises {type(e).__name__}"
    if torch.equal(got, base):
        return got, "transformers: no change"
    return got, f"transformers: logits change by {(got - base).abs().max().item():.1e}"


def configurations(ossify, folder, variants):
    """The second part. Returns the failures."""
    failures = 0
    config = json.loads((folder / "config.json").read_text())
    # More tokens than the window, some through the cache, and positions from
    # which rounded bounds show.
    ids = tokens(60, config["vocab_size"])
    base = theirs(load(folder, "f32"), ids, prefill=len(ids) - 4)
    count = 0
    for v in variants:
        keys = set(v.get("set", {})) | set(v.get("drop", []))
        known = tuple(int(n) for n in v.get("since", "4.55").split(".")) <= RELEASE
        if v["layout"] != "hf" or keys & SHAPES:
            continue
        with tempfile.TemporaryDirectory() as tmp:
            at = copy(folder, pathlib.Path(tmp) / "model", edited(config, v))
            got, text = outcome(at, ids, base)
            refused = subprocess.run([ossify, "inspect", at], capture_output=True).returncode == 1
            ok = refused == (v["verdict"] == "refused")
            if not known:
                text += ", which does not know the key"
            elif v["verdict"] == "accepted" and ok:
                ok = got is not None and torch.equal(got, base)
                if got is not None and not ok:  # the cache is another, in which sums have another order
                    want, own = (ours(ossify, at, ids, p) for p in ("f64", "f32"))
                    ok, near = judge(want, got, own, "f32")
                    text += ", " + near
            elif v["verdict"] == "honoured":
                ok = ok and got is not None and not torch.equal(got, base)
                if ok:
                    want, own = (ours(ossify, at, ids, p) for p in ("f64", "f32"))
                    ok, near = judge(want, got, own, "f32")
                    text += ", " + near
        print(f"{v['verdict']:8} {v['name']}: {text}{'' if ok else ' FAIL'}", flush=True)
        failures += not ok
        count += 1
    print(f"{count} configurations")
    return failures


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    if hasattr(transformers.logging, "disable_progress_bar"):
        transformers.logging.disable_progress_bar()
    ossify, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    root = pathlib.Path(__file__).resolve().parents[2]
    variants = json.loads((root / "gptoss/testdata/config-variants.json").read_text())
    print(f"transformers {transformers.__version__}, PyTorch {torch.__version__}")
    failures = logits(ossify, folder) + configurations(ossify, folder, variants)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
