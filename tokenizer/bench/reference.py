# Encodes the file of argv[1] once for every line of stdin and answers with the
# nanoseconds that took; after stdin ends it writes the ids to argv[2].
import array
import sys
import time

import tiktoken

encoding = tiktoken.get_encoding("o200k_base")
with open(sys.argv[1], encoding="utf-8", newline="") as f:
    text = f.read()
ids = []
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter_ns()
    ids = encoding.encode_ordinary(text)
    print(time.perf_counter_ns() - start, flush=True)
with open(sys.argv[2], "wb") as f:
    array.array("I", ids).tofile(f)
