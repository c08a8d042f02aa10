#!/usr/bin/env bash
# Show that the streamed reference is the reference: the model of a seed and
# preset, streamed with next to no memory, killed once on the way and begun again,
# leaves the trace of the whole model, byte for byte, in both precisions.
#
#   tools/reference/streamed.sh FOLDER TRACE SEED TOKENS PRECISION
#
# FOLDER is a checkpoint, TRACE what trace.py made of random:TOKENS:SEED.
set -euo pipefail
folder=$1 trace=$2 seed=$3 tokens=$4 precision=$5
state=$(mktemp -d "${trace%/*}/streamed.XXXXXX")
stream() {
	build/reference-venv/bin/python tools/reference/stream.py "$folder" --tokens "random:$tokens:$seed" --precision "$precision" \
		--expert-memory 0.0001 --state "$state" --routing "$state/routing.safetensors" -o "$state/trace.safetensors"
}
stream >"$state/log" 2>&1 &
pid=$!
until compgen -G "$state/*/block.0.safetensors" >/dev/null || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
pkill -KILL -P $pid || true
wait $pid 2>/dev/null || true
rm -f "$state/trace.safetensors"
stream >"$state/log" 2>&1 || {
	cat "$state/log" >&2
	exit 1
}
grep -q 'block.0: done before' "$state/log" || {
	echo "tools/reference: a killed run began anew" >&2
	exit 1
}
cmp "$trace" "$state/trace.safetensors"
echo "$precision, streamed, killed and begun again: the same bytes as the whole model's trace"
rm -rf "$state"
