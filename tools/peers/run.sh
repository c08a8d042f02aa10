#!/usr/bin/env bash
# Compares ossify with other programs that write gpt-oss as ONNX: docs/peers.md.
#
#   tools/peers/run.sh                        width of gpt-oss-20b, 3 rounds; half an hour
#   tools/peers/run.sh --preset tiny          everything, in minutes
#   tools/peers/run.sh --only mobius,genai-fp32 --rounds 1
#
# Needs Linux on x86-64, Go, Python 3.11 with venv, npm, GNU time, PyPI and the npm registry; 25 GB
# of disk, 24 GB of memory. Works in build/peers; the table is build/peers/PRESET/table.md.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

# gpt-oss's metadata ask for Python 3.12 and for packages that only its tools use.
venv python3.11 install --no-deps --ignore-requires-python gpt-oss==0.0.9
node_modules "$work/npm"
"$root/tools/deps/install.sh"
(cd "$root" && go build -o "$work/ossify" ./cmd/ossify)

export HF_HUB_OFFLINE=1 JAX_PLATFORMS=cpu OSSIFY_ONNXRUNTIME=$root/build/deps/onnxruntime
exec "$python" "$here/measure.py" --work "$work" "$@"
