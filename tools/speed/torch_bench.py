#!/usr/bin/env python3
"""Times transformers' gpt-oss on PyTorch's CPU kernels; prints tokens a second as JSON.

transformers has no CPU kernel for MXFP4: it takes the experts as bfloat16, 1.6 GB a layer of 20b. So
only a model of few layers runs. There is one run to warm up; logits are asked for the last token only.
"""

import argparse
import json
import time

import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="in the Hugging Face layout")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prefill", required=True, help="tokens, a,b,c")
    parser.add_argument("--decode", type=int, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.checkpoint, dtype=torch.bfloat16, quantization_config=transformers.Mxfp4Config(dequantize=True))
    model.eval()
    vocab = model.config.vocab_size
    cache = lambda: transformers.DynamicCache(config=model.config)

    def prefill(n):
        model(torch.randint(vocab, (1, n)), past_key_values=cache(), use_cache=True, logits_to_keep=1)
        return n

    def decode(n):
        past = cache()
        for _ in range(n):
            model(torch.randint(vocab, (1, 1)), past_key_values=past, use_cache=True)
        return n

    def rates(test, n):
        test(min(n, 32))
        for _ in range(args.repeat):
            start = time.perf_counter()
            test(n)
            yield n / (time.perf_counter() - start)

    with torch.inference_mode():
        report = {f"prefill {n}": list(rates(prefill, n)) for n in map(int, args.prefill.split(","))}
        report[f"decode {args.decode}"] = list(rates(decode, args.decode))
    report["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
