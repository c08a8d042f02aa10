"""Ask onnxruntime-genai and optimum what they make of our packages.

    python check.py genai|optimum DIR

DIR holds what `go run ./tools/packcheck DIR` writes. Each program tokenizes
texts, applies the chat template, and answers prompts greedily, alone and as a
left-padded batch where it has them. Exits 1 if anything differs from
expected.json.
"""

import json
import os
import sys


def same(what, got, want):
    got, want = list(map(int, got)), list(want)
    if got != want:
        first = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        sys.exit(f"{what}: differs from {first} on: {got[first:first + 5]}, want {want[first:first + 5]}")
    print(f"{what}: {len(got)} ids, the same", flush=True)


def genai(dir, want):
    import onnxruntime_genai as og

    model = og.Model(os.path.join(dir, "genai"))
    tokenizer = og.Tokenizer(model)
    for t in want["texts"]:
        same(f"text {t['text']!r}", tokenizer.encode(t["text"]), t["ids"])
    for c in want["chats"]:
        if c["reasoning_effort"] or c["current_date"]:
            continue  # it passes no arguments to a template
        text = tokenizer.apply_chat_template(messages=json.dumps(c["messages"]), add_generation_prompt=True)
        same(f"chat {c['messages'][-1]['content']!r}", tokenizer.encode(text), c["ids"])
    for prompt, answer in zip(want["prompts"], want["answers"]):
        params = og.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=len(prompt) + len(answer))
        generator = og.Generator(model, params)
        generator.append_tokens([prompt])
        while not generator.is_done():
            generator.generate_next_token()
        same(f"prompt of {len(prompt)}", generator.get_sequence(0), prompt + answer)


def optimum(dir, want):
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoTokenizer

    folder = os.path.join(dir, "optimum")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for t in want["texts"]:
        same(f"text {t['text']!r}", tokenizer.encode(t["text"], add_special_tokens=False), t["ids"])
    for c in want["chats"]:
        args = {k: c[k] for k in ("reasoning_effort", "current_date") if c[k]}
        text = tokenizer.apply_chat_template(c["messages"], add_generation_prompt=True, tokenize=False, **args)
        same(f"chat {c['messages'][-1]['content']!r}", tokenizer.encode(text, add_special_tokens=False), c["ids"])
    model = ORTModelForCausalLM.from_pretrained(folder)
    n = len(want["answers"][0])
    for prompt, answer in zip(want["prompts"], want["answers"]):
        out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), do_sample=False, max_new_tokens=n)
        same(f"prompt of {len(prompt)}", out[0], prompt + answer)
    longest = max(map(len, want["prompts"]))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in want["prompts"]])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in want["prompts"]])
    out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=n)
    for i, (prompt, answer) in enumerate(zip(want["prompts"], want["answers"])):
        same(f"prompt of {len(prompt)} in a batch", out[i][longest:], answer)


def main():
    program, dir = sys.argv[1:]
    with open(os.path.join(dir, "expected.json")) as f:
        {"genai": genai, "optimum": optimum}[program](dir, json.load(f))


main()
