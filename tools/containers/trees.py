"""Write OCDBT databases by TensorStore, of shapes that Orbax does not write.

    trees.py OUT

OUT/NAME is a database, OUT/NAME.json what it holds: the SHA-256 of each value.
"""

import hashlib
import json
import os
import random
import shutil
import sys

import tensorstore as ts

CASES = {
    # Many small nodes: a high tree; values of all lengths, within nodes and out of line.
    "high": dict(keys=150, commits=1, config={"max_decoded_node_bytes": 400, "max_inline_value_bytes": 20}),
    # Many versions, keys replaced and removed.
    "versions": dict(keys=6, commits=8, config={"max_decoded_node_bytes": 600, "max_inline_value_bytes": 30}),
    "uncompressed": dict(keys=25, commits=3, config={"compression": None, "max_decoded_node_bytes": 500, "max_inline_value_bytes": 16}),
}


def main():
    out, = sys.argv[1:]
    for name, case in CASES.items():
        r = random.Random(name)
        folder = os.path.abspath(os.path.join(out, name))
        shutil.rmtree(folder, ignore_errors=True)
        kv = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/", "config": case["config"]}).result()
        held = {}
        for _ in range(case["commits"]):
            t = ts.Transaction(atomic=True)
            for _ in range(case["keys"]):
                key = "/".join(r.choice(["a", "bb", "block_7", "mlp", "é", "x" * 30]) for _ in range(r.randint(1, 4))) + str(r.randint(0, 999))
                value = r.randbytes(r.choice([0, 1, 15, 16, 17, 20, 21, 40]))
                held[key] = value
                kv.with_transaction(t)[key] = value
            t.commit_sync()
            for key in r.sample(sorted(held), len(held) // 10):
                del held[key]
                kv.delete_range(ts.KvStore.KeyRange(key, key + "\0")).result()
        assert {k.decode(): bytes(kv[k]) for k in kv.list().result()} == held
        with open(folder + ".json", "w") as f:
            json.dump({k: hashlib.sha256(v).hexdigest() for k, v in sorted(held.items())}, f)


main()
