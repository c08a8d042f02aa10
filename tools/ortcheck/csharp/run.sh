#!/usr/bin/env bash
# Greedy tokens of a small exported model in a C# program, with the operator library and without, against
# `ossify generate`.
#
#   tools/ortcheck/csharp/run.sh
#
# Needs what the library needs, build/deps (make deps), and Mono: mono and mcs, Debian's mono-runtime and mono-mcs.
# Works in build/ortcheck.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$root/build/ortcheck
make -C "$root" --no-print-directory build ort-library deps
mkdir -p "$work"
rm -rf "$work/tiny"
"$root/bin/ossify" synth --preset tiny "$work/tiny"
"$root/bin/ossify" export "$work/tiny" --in-place --last
mcs -warnaserror -out:"$work/Greedy.exe" "$here/Greedy.cs"
prompt="1 2 3 500 77 8"
want=$("$root/bin/ossify" generate "$work/tiny" --precision f32 --tokens "${prompt// /,}" --raw --max-tokens 40 -q)
mkdir -p "$work/lib"
ln -sf "$(ls "$root"/build/deps/onnxruntime/libonnxruntime.so* | tail -1)" "$work/lib/libonnxruntime.so"
export LD_LIBRARY_PATH=$work/lib ORT_DISABLE_TELEMETRY=1
for library in - "$root/bin/libossify_ort.so"; do
	# shellcheck disable=SC2086 # the ids are words
	got=$(mono "$work/Greedy.exe" "$work/tiny/model.onnx" "$library" 512 4 2 16 40 $prompt)
	[ "$got" = "$want" ] || { echo "C#, operators $library: ${got//$'\n'/ }, want ${want//$'\n'/ }"; exit 1; }
	echo "C#, operators $library: 40 tokens, the engine's"
done
if mono "$work/Greedy.exe" "$work/tiny/model.onnx" "$work/tiny/model.onnx" 512 4 2 16 1 1; then
	echo "a library that is none: it ran"
	exit 1
fi
