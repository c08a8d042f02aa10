"""For run.sh.

check.py make N FILE    writes requests
check.py same FILE A B  the answers in two folders are the same, one for each request
check.py slots          how many slots the cluster has
check.py job KILLED     where the job ran and what failed meanwhile, which must be
                        as many things as were killed
"""

import glob
import json
import re
import sys
import urllib.request

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
    answers, wrong = {}, []
    for name in glob.glob(folder + "/output-*.jsonl") + glob.glob(folder + "/errors-*.jsonl"):
        for line in open(name):
            v = json.loads(line)
            if v["custom_id"] is None:
                wrong.append(VARYING.sub("*", json.dumps(v)))
            elif v["custom_id"] in answers:
                sys.exit(f"{folder}: {v['custom_id']} is answered twice")
            else:
                answers[v["custom_id"]] = VARYING.sub("*", json.dumps(v))
    return answers, sorted(wrong)


def same(name, a, b):
    want = sum(1 for _ in open(name))
    (x, m), (y, n) = read(a), read(b)
    if len(x) + len(m) != want or len(y) + len(n) != want or m != n:
        sys.exit(f"{want} lines, answered {len(x)} and {len(y)}, wrong {len(m)} and {len(n)}, or not told the same")
    for key, value in x.items():
        if y.get(key) != value:
            sys.exit(f"{key}: {value}\n{y.get(key)}")
    print(f"{len(x)} answers are the same, {len(m)} wrong lines are told in both")


def ask(path):
    with urllib.request.urlopen("http://localhost:8081" + path) as r:
        return json.load(r)


def slots():
    try:
        return ask("/overview")["slots-total"]
    except OSError:
        return 0


def job(killed):
    (j,) = ask("/jobs/overview")["jobs"]
    print(f"job {j['name']}: {j['state']}, {j['duration'] / 1000:.1f} s")
    for v in ask(f"/jobs/{j['jid']}")["vertices"]:
        tasks = ask(f"/jobs/{j['jid']}/vertices/{v['id']}")["subtasks"]
        print(f"  {v['name'][:60]}:", ", ".join(f"{t['taskmanager-id']} (attempt {t['attempt'] + 1})" for t in tasks))
    failed = ask(f"/jobs/{j['jid']}/exceptions")["exceptionHistory"]["entries"]
    for e in failed:
        print("  failed:", e["stacktrace"].splitlines()[0])
    if len(failed) != killed:
        sys.exit(f"{len(failed)} failures, want {killed}")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1] == "same":
        same(*sys.argv[2:])
    elif sys.argv[1] == "slots":
        print(slots())
    else:
        job(int(sys.argv[2]))
