"""Run the lines of Python that docs/onnxruntime.md gives, as they stand there.

    python snippet.py MARKDOWN LIBRARY CHECKPOINT

CHECKPOINT is a folder with an exported model.onnx. The logits must be those of
the model without the library.
"""

import os
import re
import sys
import tempfile

import numpy as np
import onnxruntime as ort

markdown, library, checkpoint = map(os.path.abspath, sys.argv[1:])
(code,) = re.findall(r"```python\n(.*?)```", open(markdown, encoding="utf-8").read(), re.S)
with tempfile.TemporaryDirectory() as work:
    os.chdir(work)
    os.mkdir("bin")
    os.symlink(library, "bin/libossify_ort.so")
    os.symlink(checkpoint, "20b")
    names = {}
    exec(compile(code, markdown, "exec"), names)
    plain = ort.InferenceSession("20b/model.onnx", providers=["CPUExecutionProvider"])
    given = {"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
    want = plain.run(["logits"], {**given, **{x.name: np.zeros((1, x.shape[1], 0, x.shape[3]), np.float32) for x in plain.get_inputs()[2:]}})[0]
    got = names["logits"]
    off = float(np.max(np.abs(got - want)) / np.sqrt(np.mean(want.astype(np.float64) ** 2)))
    assert got.shape == want.shape and 0 < off <= 2e-5, f"{got.shape}, {want.shape}, off by {off} of the rms"
    print(f"{len(code.splitlines())} lines of {os.path.basename(markdown)}: logits {got.shape}, off by {off:.2g} of the rms")
