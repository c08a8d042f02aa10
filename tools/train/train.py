#!/usr/bin/env python3
"""Trains a small gpt-oss on a course that `go run ./tools/train data` wrote.

The model is that of gpt_oss/torch/model.py, with three differences that change
no value: rows of ids that never occur are one row, rows that a batch's prompts
begin with are computed once, and a token's experts are looped over. What a
checkpoint stores is what is trained: weights are rounded in every step, experts
to MXFP4, all others to bfloat16, and gradients pass straight through.
"""

import argparse
import hashlib
import json
import math
import os
import struct
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
import torch
import torch.nn.functional as F

KINDS = ["drill", "greeting", "name", "fact", "unknown", "sum", "call", "result"]  # of tools/train/talk
VOCAB = 201088  # rows of the official embedding
BLOCK = 32  # values of MXFP4 that share a scale
TIE = 0.04  # of the embedding's rows in the unembedding's
TABLES = ("embedding", "unembedding")  # in which a word's rows with and without a space are tied


def fail(message):
    sys.exit(f"train.py: {message}")


def mxfp4_exponents(w):
    """Of each block, so that its largest value lies in (3.5, 7]: [..., blocks, 1]."""
    most = w.unflatten(-1, (-1, BLOCK)).abs().amax(-1, keepdim=True)
    return torch.ceil(torch.log2(most.clamp(min=2.0**-100) / 7))


def e2m1(v):
    """The nearest of ±{0, .5, 1, 1.5, 2, 3, 4, 6}, ties to the even code."""
    a = v.abs()
    step = torch.where(a < 2, 0.5, torch.where(a < 4, 1.0, 2.0))
    return torch.copysign((torch.round(a / step) * step).clamp(max=6), v)


def to_mxfp4(w):
    scale = torch.exp2(mxfp4_exponents(w))
    return (e2m1(w.unflatten(-1, (-1, BLOCK)) / scale) * scale).flatten(-2)


def rope_tables(c, positions):
    """YaRN, as RotaryEmbedding: [positions, head_dim/2] cosines and sines."""
    half = c["head_dim"] // 2
    freq = c["rope_theta"] ** (torch.arange(0, c["head_dim"], 2, dtype=torch.float) / c["head_dim"])
    factor, context = c["rope_scaling_factor"], c["initial_context_length"]
    low, high = (half * math.log(context / (beta * 2 * math.pi)) / math.log(c["rope_theta"])
                 for beta in (c["rope_ntk_beta"], c["rope_ntk_alpha"]))
    ramp = ((torch.arange(half, dtype=torch.float) - low) / (high - low)).clamp(0, 1)
    inverse = ramp / (factor * freq) + (1 - ramp) / freq
    angles = torch.outer(torch.arange(positions, dtype=torch.float), inverse)
    concentration = 0.1 * math.log(factor) + 1
    return (angles.cos() * concentration).bfloat16(), (angles.sin() * concentration).bfloat16()


def rotate(x, cos, sin):
    """x is [..., positions, heads, head_dim]."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def rms_norm(x, scale):
    """Of float32, to bfloat16."""
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * scale).bfloat16()


class Model:
    """Parameters by their official names, but for mlp1, whose halves stand apart."""

    def __init__(self, c, rows, pairs=()):
        self.c, self.rows = c, rows
        d, i, e, h = c["hidden_size"], c["intermediate_size"], c["num_experts"], c["head_dim"]
        q, kv = c["num_attention_heads"] * h, c["num_key_value_heads"] * h
        self.w, self.experts = {}, set()

        def add(name, *shape, sigma=0.0, level=0.0):
            self.w[name] = torch.randn(shape) * sigma + level

        def uniform(name, *shape):
            self.w[name] = (torch.rand(shape) * 2 - 1) / shape[-1] ** 0.5

        add("embedding.weight", rows, d, sigma=1)
        for n in range(c["num_hidden_layers"]):
            b = f"block.{n}."
            add(b + "attn.sinks", c["num_attention_heads"])
            add(b + "attn.norm.scale", d, level=1)
            uniform(b + "attn.qkv.weight", q + 2 * kv, d)
            add(b + "attn.qkv.bias", q + 2 * kv)
            uniform(b + "attn.out.weight", d, q)
            add(b + "attn.out.bias", d)
            add(b + "mlp.norm.scale", d, level=1)
            add(b + "mlp.gate.weight", e, d, sigma=0.02)
            add(b + "mlp.gate.bias", e)
            uniform(b + "mlp.mlp1_weight", e, 2 * i, d)
            add(b + "mlp.mlp1_bias", e, 2 * i)
            uniform(b + "mlp.mlp2_weight", e, d, i)
            add(b + "mlp.mlp2_bias", e, d)
            self.experts |= {b + "mlp.mlp1_weight", b + "mlp.mlp2_weight"}
            for name in ("attn.out.weight", "mlp.mlp2_weight"):
                self.w[b + name] *= 0.3
        add("norm.scale", d, level=1)
        # What stored adds to the embedding's: rows begin alike, so that what is
        # copied need not be learnt id by id.
        add("unembedding.weight", rows, d)
        # A word is the same with and without a space before it, but for a
        # direction that all words share, and what its own row adds, 0 to begin with.
        both = {i for i, _ in pairs} & {i for _, i in pairs}  # of several spaces
        pairs = [pair for pair in pairs if not both & set(pair)]
        self.spaced, self.bare = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
        self.w["embedding.weight"][self.bare] = 0
        add("embedding.bare", d, sigma=0.7)
        add("unembedding.bare", d)
        self.cos, self.sin = rope_tables(c, 4096)
        self.look_back()
        self.copy()

    def look_back(self):
        """Lets the heads of the first layer begin with an eye on the tokens 1, 2, ... before.

        Keys get a bias in the three pairs of columns that turn fastest, queries
        the same turned back as far. Copying is learnt from there; from none, it
        takes thousands of steps to begin.
        """
        c = self.c
        h, heads, kv = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        bias = self.w["block.0.attn.qkv.bias"]
        q, k = bias[:heads * h].view(heads, h), bias[heads * h:(heads + kv) * h].view(kv, h)
        for pair in range(3):
            turn = c["rope_theta"] ** (-2 * pair / h)
            k[:, [pair, h // 2 + pair]] = 3.5
            for head in range(heads):
                back = turn * (1 + head % (heads // kv))
                q[head, pair] = 3.5 * (math.cos(back) + math.sin(back))
                q[head, h // 2 + pair] = 3.5 * (math.cos(back) - math.sin(back))

    def copy(self):
        """Lets a head of each layer begin as part of a copying machine.

        In the first layer the head that looks one token back writes what stands
        there; in the layers that see everything a head looks for tokens after
        one like its own, with the columns that turn slowly, and writes what it
        sees, as what it is.
        """
        c = self.c
        h, heads, kv, d = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"], c["hidden_size"]
        own, before, *seen = torch.linalg.qr(torch.randn(d, 4 * h)).Q.T.split(h)
        slow = [i for i in range(h) if i % (h // 2) >= 6]
        for layer in range(c["num_hidden_layers"]):
            b = f"block.{layer}.attn."
            q, k, v = (w.view(-1, h, d) for w in self.w[b + "qkv.weight"].split((heads * h, kv * h, kv * h)))
            out = self.w[b + "out.weight"].view(d, heads, h)
            if layer == 0:
                v[0], out[:, 0] = own, 2 * before.T
            if layer % 2:
                v[0], out[:, 0] = seen[layer // 2], 4 * seen[layer // 2].T
                q[0], k[0] = 0, 0
                q[0, slow], k[0, slow] = 1.2 * own[:len(slow)], 1.2 * before[:len(slow)]

    @torch.no_grad()
    def stored(self):
        """The tensors of a checkpoint, not rounded."""
        out = dict(self.w)
        for table in TABLES:
            w = out[table + ".weight"] = out[table + ".weight"].clone()
            w[self.bare] += w[self.spaced] + out.pop(table + ".bare")
        out["unembedding.weight"] += TIE * out["embedding.weight"]
        return out

    @torch.no_grad()
    def of_parameters(self, grads):
        """From gradients by what stored returns to those by the parameters: its transpose."""
        grads["embedding.weight"] += TIE * grads["unembedding.weight"]
        for table in TABLES:
            words = grads[table + ".weight"][self.bare]
            grads[table + ".bare"] = words.sum(0)
            grads[table + ".weight"].index_add_(0, self.spaced, words)
        return grads

    @torch.no_grad()
    def rounded(self):
        """What a checkpoint stores; bfloat16 holds every value of MXFP4."""
        return {k: (to_mxfp4(v) if k in self.experts else v).bfloat16() for k, v in self.stored().items()}

    def attend(self, q, k, v, sinks, before, window):
        """q is [B, T, heads, dim], k and v [B, before+T, kv, dim]."""
        b, t, heads, dim = q.shape
        kv, s = k.shape[2], k.shape[1]
        q = q.view(b, t, kv, heads // kv, dim).permute(0, 2, 3, 1, 4).reshape(b, kv, heads // kv * t, dim)
        scores = q @ (k.permute(0, 2, 3, 1) * dim**-0.5)  # [B, kv, heads/kv * T, S]
        scores = scores.view(b, heads, t, s)
        at, key = torch.arange(before, before + t)[:, None], torch.arange(s)[None]
        hidden = key > at
        if window:
            hidden = hidden | (at - key >= window)
        scores = scores + torch.zeros(hidden.shape, dtype=scores.dtype).masked_fill(hidden, -math.inf)
        scores = torch.cat((scores, sinks[:, None, None].expand(b, heads, t, 1)), dim=-1)
        weights = scores.softmax(-1)[..., :-1].reshape(b, kv, heads // kv * t, s)
        out = weights @ v.permute(0, 2, 1, 3)
        return out.view(b, heads, t, dim).permute(0, 2, 1, 3).reshape(b * t, heads * dim)

    def mlp(self, w, b, x, balance):
        t = rms_norm(x, w[b + "mlp.norm.scale"])
        gate = F.linear(t, w[b + "mlp.gate.weight"], w[b + "mlp.gate.bias"])
        best = gate.topk(self.c["experts_per_token"], dim=-1)
        share = best.values.float().softmax(-1)
        out = torch.zeros_like(x)
        load = []
        for e in range(self.c["num_experts"]):
            row, place = (best.indices == e).nonzero(as_tuple=True)
            load.append(row.numel())
            if not load[-1]:
                continue
            # In multiples of 64, which few kernels serve: the first row again, with no share.
            more = -row.numel() % 64
            row, weight = F.pad(row, (0, more)), F.pad(share[row, place, None], (0, 0, 0, more))
            y = F.linear(t[row], w[b + "mlp.mlp1_weight"][e], w[b + "mlp.mlp1_bias"][e])
            glu, linear = y.chunk(2, dim=-1)
            limit = self.c["swiglu_limit"]
            glu, linear = glu.clamp(max=limit), linear.clamp(-limit, limit)
            y = glu * torch.sigmoid(1.702 * glu) * (linear + 1)
            y = F.linear(y, w[b + "mlp.mlp2_weight"][e], w[b + "mlp.mlp2_bias"][e])
            out = out.index_add(0, row, y * weight)
        # Even use of the experts: 1 if it is.
        load = torch.tensor(load) / sum(load)
        balance.append(self.c["num_experts"] * (load * gate.float().softmax(-1).mean(0)).sum())
        return x + out

    def forward(self, w, prefix, ids):
        """Normed residual of each branch of [B, T] ids that follows prefix, [P]."""
        c, p, (n, t) = self.c, prefix.numel(), ids.shape
        heads, kv, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        x = F.embedding(torch.cat((prefix, ids.flatten())), w["embedding.weight"]).float()
        balance = []
        for layer in range(c["num_hidden_layers"]):
            b = f"block.{layer}."
            y = rms_norm(x, w[b + "attn.norm.scale"])
            y = F.linear(y, w[b + "attn.qkv.weight"], w[b + "attn.qkv.bias"])
            q, k, v = (part.view(-1, m, dim) for part, m in zip(y.split((heads * dim, kv * dim, kv * dim), -1), (heads, kv, kv)))
            window, sinks = 0 if layer % 2 else c["sliding_window"], w[b + "attn.sinks"]
            parts = []
            first = [rotate(z[:p], self.cos[:p], self.sin[:p])[None] for z in (q, k)] + [v[None, :p]]
            parts.append(self.attend(*first, sinks, 0, window))
            cos, sin = self.cos[p:p + t], self.sin[p:p + t]
            rest = [rotate(z[p:].view(n, t, -1, dim), cos, sin) for z in (q, k)] + [v[p:].view(n, t, -1, dim)]
            for i in (1, 2):
                rest[i] = torch.cat((first[i].expand(n, -1, -1, -1), rest[i]), dim=1)
            parts.append(self.attend(*rest, sinks, p, window))
            x = x + F.linear(torch.cat(parts), w[b + "attn.out.weight"], w[b + "attn.out.bias"])
            x = self.mlp(w, b, x, balance)
        return rms_norm(x[p:], w["norm.scale"]), torch.stack(balance).mean()

    def gradients(self, w, batch, absent):
        """Of the mean loss, by the rounded weights; and what to report.

        absent is how many ids the last row stands for. Targets of -1 do not count.
        """
        prefix, ids, targets, kinds = batch
        w = {k: v.detach().requires_grad_() for k, v in w.items()}
        x, balance = self.forward(w, prefix, ids)
        keep = (targets.flatten() >= 0).nonzero().squeeze(1)
        logits = F.linear(x[keep], w["unembedding.weight"]).float()
        more = torch.zeros(self.rows)
        more[-1] = math.log(absent)
        want = targets.flatten()[keep]
        loss = F.cross_entropy(logits + more, want)
        grads = torch.autograd.grad(loss + 0.01 * balance, list(w.values()))
        right = (logits.argmax(-1) == want).float()
        kind = kinds[:, None].expand_as(ids).flatten()[keep]
        return grads, {"loss": loss.item(), "balance": balance.item()} | {
            KINDS[k]: right[kind == k].mean().item() for k in kind.unique().tolist()}


def newton_schulz(g, steps=5):
    """Keller Jordan's Muon: nearly the orthogonal factor of each matrix of [N, rows, columns]."""
    x = g.bfloat16()
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """Muon for the matrices of attention and experts, Adam for all else."""

    def __init__(self, model, muon, adam):
        self.model, self.muon, self.adam = model, muon, adam
        self.shapes = {}  # names of the matrices of a shape
        for name, w in model.w.items():
            if name.endswith(("qkv.weight", "out.weight")) or name in model.experts:
                self.shapes.setdefault(tuple(w.shape[-2:]), []).append(name)
        self.first = {k: torch.zeros_like(w) for k, w in model.w.items()}
        matrices = sum(self.shapes.values(), [])
        self.second = {k: torch.zeros_like(w) for k, w in model.w.items() if k not in matrices}
        self.done = 0

    def step(self, grads, part, pool):
        """grads are by name; part is of the full rates."""
        self.done += 1

        @torch.no_grad()
        def matrices(shape):
            names = self.shapes[shape]
            for k in names:
                self.first[k].lerp_(grads[k], 0.05)
            g = torch.cat([grads[k].lerp(self.first[k], 0.95).view(-1, *shape) for k in names])
            g = newton_schulz(g) * max(1, shape[0] / shape[1]) ** 0.5
            for k, u in zip(names, g.split([self.first[k].numel() // (shape[0] * shape[1]) for k in names])):
                w = self.model.w[k]
                w.mul_(1 - part * self.muon * 0.1).add_(u.view_as(w), alpha=-part * self.muon)

        @torch.no_grad()
        def others(k):
            m, v = self.first[k].lerp_(grads[k], 0.1), self.second[k]
            v.lerp_(grads[k].square(), 0.02)
            m, v = m / (1 - 0.9**self.done), v / (1 - 0.98**self.done)
            rate, least = part * self.adam, 1e-10
            if k.endswith("embedding.weight"):
                # A row that is seldom used has hardly a gradient, and shall not
                # be moved as far as others: it would lose what it began with.
                # Nor shall a word soon differ from itself after a space.
                rate, least = 2 * rate, v.mean().sqrt()
                m[self.model.bare] *= 0.5
            self.model.w[k].addcdiv_(m, v.sqrt() + least, value=-rate)

        waiting = [pool.submit(matrices, shape) for shape in self.shapes] + [pool.submit(others, k) for k in self.second]
        for w in waiting:
            w.result()


def read_course(path):
    """Conversations: (kind, ids, length of the prompt)."""
    data = memoryview(path.read_bytes()).cast("I")
    course, at = [], 0
    while at < len(data):
        kind, n, prompt = data[at:at + 3]
        course.append((kind, data[at + 3:at + 3 + n], prompt))
        at += 3 + n
    return course


def vocabulary(course, least):
    """Ids that occur at least so often, or that the assistant is to write."""
    count, written = Counter(), set()
    for _, ids, prompt in course:
        count.update(ids)
        written.update(ids[prompt:])
    return sorted(v for v, n in count.items() if n >= least or v in written)


def batches(course, rows, size, generator):
    """In the course's order, roughly: like lengths of like beginnings together."""
    window, out = 4096, []
    for at in range(0, len(course), window):
        groups = {}
        for item in course[at:at + window]:
            groups.setdefault(tuple(item[1][:52]), []).append(item)  # of the system's message
        rest = [item for key in list(groups) if len(groups[key]) < 64 for item in groups.pop(key)]
        some, groups["rest"] = [], rest
        for group in groups.values():
            group.sort(key=lambda item: len(item[1]))
            batch, most = [], 0
            for item in group:
                if batch and len(batch) % 4 == 0 and (len(batch) + 4) * (len(item[1]) - 50) > size:
                    some.append(batch)
                    batch = []
                batch.append(item)
            if batch:
                some.append(batch)
        out += [some[i] for i in torch.randperm(len(some), generator=generator)]
    for batch in out:
        lists = [[rows.get(v, len(rows)) for v in ids] for _, ids, _ in batch]
        prefix = os.path.commonprefix(lists)[:min(prompt for _, _, prompt in batch) - 1]
        # Few shapes: kernels are made for each.
        p = len(prefix) // 8 * 8
        prefix, longest = prefix[:p], max(map(len, lists)) - p - 1
        ids = torch.zeros(len(lists), -(-longest // 16) * 16, dtype=torch.long)
        targets = torch.full_like(ids, -1)
        for i, (list_, (_, _, prompt)) in enumerate(zip(lists, batch)):
            row = torch.tensor(list_)
            ids[i, :len(list_) - p - 1] = row[p:-1]
            targets[i, prompt - p - 1:len(list_) - p - 1] = row[prompt:]
        yield torch.tensor(prefix, dtype=torch.long), ids, targets, torch.tensor([kind for kind, _, _ in batch])


def interleaved(w):
    """[E, 2I, ...] with halves one after the other to the official order."""
    e, n = w.shape[:2]
    return w.view(e, 2, n // 2, *w.shape[2:]).transpose(1, 2).reshape(w.shape)


def least(mlp1, mlp2):
    """(expert, unit) whose linear half moves the answers least: [E, 2I, D] with halves apart, [E, D, I]."""
    units = mlp2.shape[-1]
    moves = mlp1[:, units:].float().norm(dim=-1) * mlp2.float().norm(dim=-2)  # [E, I]
    return divmod(moves.argmin().item(), units)


def set_smallest(tensors, name, expert, unit):
    """Gives the linear half of a unit the smallest weights that MXFP4 has, scale 0, and bias 0.

    They count for nothing, and a program that takes scale 0 for the number 0 is seen.
    """
    row = 2 * unit + 1
    tensors[name + "_weight.scales"][expert, row] = 0
    codes = tensors[name + "_weight.blocks"][expert, row].view(-1)
    codes.copy_(torch.arange(codes.numel()) % 7 + 1 | (7 - torch.arange(codes.numel()) % 7 | 8) << 4)  # 0.5 to 6, and below
    tensors[name + "_bias"][expert, row] = 0


def official(model):
    """The tensors of a checkpoint, by their official names; rows as they are here."""
    out = {}
    for name, w in model.stored().items():
        if "mlp.mlp1" in name:
            w = interleaved(w)
        if name not in model.experts:
            out[name] = w.bfloat16()
            continue
        exponents = mxfp4_exponents(w)
        values = e2m1(w.unflatten(-1, (-1, BLOCK)) / torch.exp2(exponents))
        codes = torch.searchsorted(torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6]), values.abs().contiguous())
        codes = (codes | (torch.signbit(values) << 3)).to(torch.uint8)
        out[name + ".blocks"] = codes[..., ::2] | codes[..., 1::2] << 4
        out[name + ".scales"] = (exponents.squeeze(-1) + 127).to(torch.uint8)
    set_smallest(out, "block.0.mlp.mlp1", *least(*(model.w[f"block.0.mlp.mlp{i}_weight"] for i in (1, 2))))
    return out


DTYPES = {torch.bfloat16: "BF16", torch.uint8: "U8", torch.int32: "I32"}


def write_safetensors(path, tensors, metadata):
    """Tensors in order of their names, the same bytes for the same input."""
    header, offset = {"__metadata__": metadata}, 0
    tensors = dict(sorted(tensors.items()))
    for name, t in tensors.items():
        size = t.numel() * t.element_size()
        header[name] = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(t.contiguous().view(torch.uint8).numpy().tobytes())
    os.replace(temporary, path)


def save(path, model, ids, metadata):
    tensors = official(model) | {"ids": torch.tensor(ids, dtype=torch.int32)}
    write_safetensors(path, tensors, metadata | {"config": json.dumps(model.c | {"vocab_size": VOCAB})})


def main():
    parser = argparse.ArgumentParser(description="Train a small gpt-oss.")
    parser.add_argument("course", type=Path, help="what `go run ./tools/train data` wrote")
    parser.add_argument("--pairs", type=Path, required=True, help="what `go run ./tools/train pairs` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("config.json"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4, help="batches of a step (4)")
    parser.add_argument("--threads", type=int, default=4, help="on which they are computed; the result is the same (4)")
    parser.add_argument("--tokens", type=int, default=1024, help="of a batch, shared beginnings left out (1024)")
    parser.add_argument("--muon", type=float, default=0.008, help="rate of Muon (0.008)")
    parser.add_argument("--adam", type=float, default=0.003, help="rate of Adam (0.003)")
    parser.add_argument("--least", type=int, default=8, help="times an id occurs to have a row (8)")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--flat", type=int, required=True, help="steps at the full rates; over the rest they fall to nothing")
    parser.add_argument("--state", type=Path, help="file to go on from, if it is there, and to keep every 50 steps")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    c = json.loads(args.config.read_text())
    course = read_course(args.course)
    ids = vocabulary(course, args.least)
    rows, generator = {v: i for i, v in enumerate(ids)}, torch.Generator().manual_seed(args.seed)
    pairs = memoryview(args.pairs.read_bytes()).cast("I")
    model = Model(c, len(ids) + 1, [(rows[a], rows[b]) for a, b in zip(pairs[::2], pairs[1::2]) if a in rows and b in rows])
    optimizer = Optimizer(model, args.muon, args.adam)
    every = chain.from_iterable(batches(course, rows, args.tokens, generator) for _ in count())
    metadata = {
        "recipe": f"tools/train: seed {args.seed}, course sha256 {hashlib.sha256(args.course.read_bytes()).hexdigest()}, "
                  f"{args.steps} steps, {args.flat} of them flat, of {args.workers} batches of {args.tokens} tokens, "
                  f"muon {args.muon}, adam {args.adam}",
        "torch": torch.__version__,
    }
    if args.state and args.state.exists():
        state = torch.load(args.state)
        model.w, optimizer.first, optimizer.second, optimizer.done = state
        for _ in range(optimizer.done * args.workers):
            next(every)
    print(f"{len(course)} conversations, {len(ids)} ids, {sum(w.numel() for w in model.w.values())} parameters, "
          f"steps {optimizer.done + 1} to {args.steps}", flush=True)

    start, means = time.time(), {}
    pool = ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,))
    while optimizer.done < args.steps:
        w, some = model.rounded(), [next(every) for _ in range(args.workers)]
        parts = list(pool.map(lambda batch: model.gradients(w, batch, VOCAB - len(ids)), some))
        grads = {k: sum(g.float() for g in gs) / args.workers for k, *gs in zip(w, *(grads for grads, _ in parts))}
        grads = model.of_parameters(grads)
        # Up over the first 30 steps, flat, and down.
        step = optimizer.done + 1
        optimizer.step(grads, min(step / 30, (args.steps + 1 - step) / (args.steps + 1 - args.flat), 1), pool)
        for _, report in parts:
            for k, v in report.items():
                means[k] = v if k not in means else 0.95 * means[k] + 0.05 * v
        if step % 25 == 0 or step == args.steps:
            print(f"step {step}, {time.time() - start:.0f} s ({time.process_time():.0f} of CPU): " +
                  ", ".join(f"{k} {v:.3f}" for k, v in means.items()), flush=True)
        if args.state and step % 50 == 0:
            temporary = args.state.with_suffix(".part")
            torch.save((model.w, optimizer.first, optimizer.second, step), temporary)
            os.replace(temporary, args.state)
            save(args.output, model, ids, metadata | {"step": str(step)})
    save(args.output, model, ids, metadata | {"loss": f"{means['loss']:.4f}"})
    digest = hashlib.sha256(args.output.read_bytes()).hexdigest()
    print(f"{args.output}: {args.output.stat().st_size} bytes, sha256 {digest}", flush=True)


if __name__ == "__main__":
    main()
