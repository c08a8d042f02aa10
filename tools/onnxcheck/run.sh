#!/usr/bin/env bash
# Check exported examples in other people's programs: onnx.checker, strict shape
# inference, ONNX Runtime's oldest and newest release, onnx.reference.
#
#   tools/onnxcheck/run.sh              all of these; about a minute, then less
#   tools/onnxcheck/run.sh openvino     OpenVINO, of which a copy is installed first
#   tools/onnxcheck/run.sh 1.24.4 ...   these releases of ONNX Runtime
#   tools/onnxcheck/run.sh fetch        install what the first needs, no more
#
# Needs Go, Python 3.9 to 3.12 with venv, and PyPI. Works in build/onnxcheck.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"
oldest=1.18.0
newest=1.32.0

# release VERSION: ONNX Runtime, without what it needs to convert models.
release() {
	[ ! -d "$work/onnxruntime-$1" ] || return 0
	rm -rf "$work/installing"
	install --no-deps --target "$work/installing" "onnxruntime==$1"
	mv "$work/installing" "$work/onnxruntime-$1"
}

venv
if [ "${1-}" = fetch ]; then
	release "$oldest"
	release "$newest"
	exit
fi
(cd "$root" && go run ./tools/onnxcheck "$work/cases" && go run ./tools/onnxcheck -plain "$work/cases-plain")

[ $# -gt 0 ] || set -- "$oldest" "$newest" reference
checked= # the checker and shape inference are the same beside every runtime
for runtime; do
	case $runtime in
	# Its GatherElements takes no more than 32 choices.
	reference) "$python" "$here/check.py" --runtime reference "$work/cases-plain" ;;
	openvino)
		[ -d "$work/openvino" ] || install --no-deps --target "$work/openvino" openvino==2026.4.1 openvino-telemetry==2025.2.0
		PYTHONPATH=$work/openvino "$python" "$here/check.py" --runtime openvino $checked "$work/cases"
		checked=--checked
		;;
	*)
		release "$runtime"
		echo "ONNX Runtime $runtime"
		PYTHONPATH=$work/onnxruntime-$runtime "$python" "$here/check.py" --runtime ort $checked "$work/cases"
		checked=--checked
		;;
	esac
done
