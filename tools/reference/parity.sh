#!/usr/bin/env bash
# A checkpoint at full depth in PyTorch, in the engine and in ONNX Runtime, on a
# prompt rendered through harmony: every stage of every layer, choices of experts,
# logits, and one report. `make parity CKPT=DIR`. docs/real-weights.md says what it
# takes: 20b runs on a machine with 24 GB of memory.
#
#   tools/reference/parity.sh CKPT
#
# CKPT is a folder in the original/ layout. Environment:
#
#   PROMPT        text of the user's message, or
#   CONVERSATION  JSON file of a conversation; default testdata/prompts/user.json
#   PRECISIONS    default "bf16 f32"
#   ROWS          about how many positions are judged, default 8: the first two, the
#                 window's edge, the last two, others evenly between
#   STATE         folder for what is done so far and the report, default
#                 build/parity/NAME, on the checkpoint's file system
#   HTML          file for the report as a page, default report.html in STATE
#
# What is done is not done again: ended by Ctrl-C or killed at any time, the same
# command goes on. On a terminal it shows how far it is. Exits with 1 unless the
# verdict is pass.
set -euo pipefail
if [ $# -ne 1 ]; then
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
	exit 2
fi
[ -f "$1/config.json" ] || {
	echo "tools/reference: $1: no config.json, want a checkpoint in the original/ layout" >&2
	exit 1
}
checkpoint=$(cd "$1" && pwd)
[ -z "${CONVERSATION:-}" ] || CONVERSATION=$(realpath -- "$CONVERSATION")
[ -z "${STATE:-}" ] || STATE=$(realpath -m -- "$STATE")
[ -z "${HTML:-}" ] || HTML=$(realpath -m -- "$HTML")
cd "$(dirname "$0")/../.."
state=${STATE:-$PWD/build/parity/$(basename "$checkpoint")}
precisions=${PRECISIONS:-bf16 f32}
html=${HTML:-$state/report.html}
mkdir -p "$state"

# run COMMAND...: what takes long, such that a signal that this script gets, from a
# terminal or of kill, ends it first, and it may put away what it has begun.
child=
run() {
	"$@" &
	child=$!
	local code=0
	wait $child || code=$?
	child=
	return $code
}
ended() {
	trap '' HUP INT TERM
	[ -z "$child" ] || {
		kill -TERM "$child" 2>/dev/null || true
		wait "$child" || true
	}
	echo "tools/reference: interrupted; the same command goes on from here" >&2
	exit "$1"
}
trap 'ended 129' HUP
trap 'ended 130' INT
trap 'ended 143' TERM
trap 'rm -f "$state"/*.part' EXIT
if command -v flock >/dev/null; then
	exec 9>"$state/lock"
	flock -n 9 || {
		echo "tools/reference: another run is at work in $state" >&2
		exit 1
	}
fi

run tools/reference/setup.sh
run tools/deps/install.sh
python=$PWD/build/reference-venv/bin/python
run go build -o "$state/ossify" ./cmd/ossify
ossify=$state/ossify
export OSSIFY_ONNXRUNTIME=${OSSIFY_ONNXRUNTIME:-$PWD/build/deps/onnxruntime}

if [ -n "${PROMPT:-}" ]; then
	ids=$("$ossify" harmony render --prompt "$PROMPT")
elif [ -n "${CONVERSATION:-}" ]; then
	ids=$("$ossify" harmony render <"$CONVERSATION")
else # a file that has more in it than the conversation
	ids=$("$python" -c 'import json; print(json.dumps(json.load(open("testdata/prompts/user.json"))["conversation"]))' | "$ossify" harmony render)
fi
ids=${ids//[\[\] ]/}
count=$(tr ',' '\n' <<<"$ids" | wc -l)
if [ "$count" -lt 40 ]; then
	echo "tools/reference: the prompt has $count tokens, want 40 or more" >&2
	exit 1
fi
echo "parity: $checkpoint, $count tokens, in $state" >&2

# step WHAT...: says what begins, and how much is before and after it.
steps=0 all=$((2 * $(wc -w <<<"$precisions") + 2))
step() { echo "parity: step $((++steps)) of $all: $*" >&2; }

# key FILE...: a name for what they hold.
key() { sha256sum -- "$@" | cut -d' ' -f1 | sha256sum | cut -c1-16; }

# judge FILE COMMAND...: the report that the command prints as JSON, in FILE. One
# that fails is a report too.
judge() {
	local file=$1 code=0 start=$SECONDS
	shift
	if [ -s "$file" ]; then
		echo "parity: $(basename "$file"): done before" >&2
		return
	fi
	run "$@" >"$file.part" || code=$?
	if [ $code -gt 1 ] || ! "$python" -m json.tool "$file.part" /dev/null 2>/dev/null; then
		exit $((code ? code : 1))
	fi
	echo "$((SECONDS - start)) s" >"$file.time"
	mv "$file.part" "$file"
	echo "parity: $(basename "$file"): $(cat "$file.time")" >&2
}

parts=() notes=()
for precision in $precisions; do
	# The file's name is that of the tokens: another prompt has files of its own.
	name=$state/$precision-$(sha256sum <<<"$ids ${ROWS:-8}" | cut -c1-8)
	step "PyTorch, $precision"
	run "$python" tools/reference/stream.py "$checkpoint" --tokens "$ids" --rows "${ROWS:-8}" --precision "$precision" \
		--state "$state/pytorch" --routing "$name-routing.safetensors" -o "$name.safetensors" >"$name.log.part"
	mv "$name.log.part" "$name.log"
	cat "$name.log" >&2
	notes+=(--note "pytorch $precision, streamed=$(sed -n 's/.*: \(.* s in parts.*\)/\1/p' "$name.log")")
done
for precision in $precisions; do
	name=$state/$precision-$(sha256sum <<<"$ids ${ROWS:-8}" | cut -c1-8)
	step "engine and oracle, $precision"
	report=$name-$(key "$ossify" "$name.safetensors" "$name-routing.safetensors").json
	judge "$report" "$ossify" verify "$checkpoint" --golden "$name.safetensors" --routing "$name-routing.safetensors" --json
	parts+=("$precision=$report")
	notes+=(--note "engine and oracle, $precision=$(cat "$report.time")")
done

# In place: the model refers to the checkpoint's own bytes, here under names that
# are hard links, so that the checkpoint's folder stays as it is.
step "ONNX Runtime and oracle"
mkdir -p "$state/onnx"
for file in "$checkpoint"/*.safetensors "$checkpoint"/*.json; do
	cp -Llf "$file" "$state/onnx/" 2>/dev/null || {
		echo "tools/reference: $state is not on the file system of $checkpoint; name a folder there in STATE" >&2
		exit 1
	}
done
run "$ossify" export --in-place --trace "$state/onnx" >&2
name=$state/${precisions##* }-$(sha256sum <<<"$ids ${ROWS:-8}" | cut -c1-8)
report=$state/onnx-$(key "$ossify" "$name.safetensors" "$name-routing.safetensors" "$state/onnx/model.onnx").json
judge "$report" "$ossify" verify "$checkpoint" --onnx "$state/onnx/model.onnx" --brief --decode 8 \
	--golden "$name.safetensors" --routing "$name-routing.safetensors" --json
parts+=("onnx=$report")
notes+=(--note "onnx and oracle=$(cat "$report.time")")

step "report"
code=0
run "$ossify" report "${parts[@]}" "${notes[@]}" --html "$html" >"$state/report.txt.part" || code=$?
[ $code -le 1 ] && [ -s "$state/report.txt.part" ] || exit 1
run "$ossify" report "${parts[@]}" "${notes[@]}" --json >"$state/report.json.part" 2>/dev/null || true # the same verdict
"$python" -m json.tool "$state/report.json.part" /dev/null
mv "$state/report.json.part" "$state/report.json"
mv "$state/report.txt.part" "$state/report.txt"
cat "$state/report.txt"
echo "parity: $state/report.txt, report.json; page: $html" >&2
exit $code
