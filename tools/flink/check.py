"""check.py make N FILE: requests; check.py same FILE A B: the answers in two folders are the same, one for each request."""

import glob
import json
import re
import sys

VARYING = re.compile(r'"(?:id|request_id|created|created_at|completed_at|cached_tokens)": (?:"[^"]*"|[0-9]+)')


def make(n, name):
    with open(name, "w") as f:
        for i in range(n):
            if i % 20 == 3:
                f.write("no request\n")
                continue
            body = {"model": "m", "messages": [{"role": "user", "content": "some words of a prompt " * (1 + i % 17) + str(i)}], "max_tokens": 1 + i % 40, "temperature": i % 3 / 2, "seed": i}
            f.write(json.dumps({"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n")


def read(folder):
    answers, wrong = {}, 0
    for name in glob.glob(folder + "/output-*.jsonl") + glob.glob(folder + "/errors-*.jsonl"):
        for line in open(name):
            v = json.loads(line)
            if v["custom_id"] is None:
                wrong += 1
            elif v["custom_id"] in answers:
                sys.exit(f"{folder}: {v['custom_id']} is answered twice")
            else:
                answers[v["custom_id"]] = VARYING.sub("*", json.dumps(v))
    return answers, wrong


def same(name, a, b):
    want = sum(1 for _ in open(name))
    (x, m), (y, n) = read(a), read(b)
    if len(x) + m != want or len(y) + n != want or m != n:
        sys.exit(f"{want} lines, answered {len(x)} and {len(y)}, wrong {m} and {n}")
    for key, value in x.items():
        if y[key] != value:
            sys.exit(f"{key}: {value}\n{y[key]}")
    print(f"{len(x)} answers are the same, {m} wrong lines are told in both")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(int(sys.argv[2]), sys.argv[3])
    else:
        same(*sys.argv[2:])
