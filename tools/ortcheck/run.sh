#!/usr/bin/env bash
# Run exported examples in ONNX Runtime with the operator library and without.
#
#   tools/ortcheck/run.sh                 the oldest and the newest release
#   tools/ortcheck/run.sh 1.24.4 ...      these
#
# Needs what tools/onnxcheck/run.sh needs, whose examples and packages these are, and a C compiler.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/build/onnxcheck
gcc -fsyntax-only -Wno-enum-compare -I"$(cd "$root" && go list -m -f '{{.Dir}}' github.com/yalue/onnxruntime_go)" "$root/tools/ortcheck/abi.c"
MAKEFLAGS='' make -C "$root" --no-print-directory ort-library
[ $# -gt 0 ] || set -- 1.18.0 1.32.0
# The examples are checked in these releases first: that installs them.
compgen -G "$work/cases/fault*.amplified.safetensors" >/dev/null || "$root/tools/onnxcheck/run.sh" "$@"
for release; do
	[ -d "$work/onnxruntime-$release" ] || "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/onnxruntime-$release" "onnxruntime==$release"
	echo "ONNX Runtime $release, against the oracle"
	ORT_DISABLE_TELEMETRY=1 PYTHONPATH=$work/onnxruntime-$release "$work/venv/bin/python" "$root/tools/onnxcheck/check.py" --checked --library "$root/bin/libossify_ort.so" "$work/cases"
	ORT_DISABLE_TELEMETRY=1 PYTHONPATH=$work/onnxruntime-$release "$work/venv/bin/python" "$root/tools/ortcheck/check.py" "$root/bin/libossify_ort.so" "$work/cases"
	ORT_DISABLE_TELEMETRY=1 PYTHONPATH=$work/onnxruntime-$release "$work/venv/bin/python" "$root/tools/ortcheck/snippet.py" "$root/docs/onnxruntime.md" "$root/bin/libossify_ort.so" "$work/cases/model"
done
