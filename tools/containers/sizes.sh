#!/usr/bin/env bash
# Convert a model's whole tree of parameters, of its size, from each kind of
# container, and compare every value. The containers take kilobytes; a checkpoint
# of 20b takes 14 GB of disk, one at a time. Prints the peak of memory.
#
#   tools/containers/sizes.sh PRESET [KIND...]
#
# Exits with 1 if a value differs, or a conversion takes 1 GB of memory or more
# (VmHWM: mapped files of ours among it). Works in build/containers/sizes, or in
# the folder that WORK names.
set -euo pipefail
if [ $# -lt 1 ]; then
	echo 'usage: tools/containers/sizes.sh PRESET [KIND...]' >&2
	exit 2
fi
preset=$1
shift
[ $# -gt 0 ] || set -- plain plain3 ocdbt ocdbt3 msgpack bf16 bf16-hf
cd "$(dirname "$0")/../.."
work=${WORK:-$PWD/build/containers/sizes}
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # through EXIT
go build -o "$work/ossify" ./cmd/ossify
go build -o "$work/containers" ./tools/containers
for kind; do
	rm -rf "$work/from" "$work/to"
	"$work/containers" sizes "$preset" "$kind" "$work/from"
	"$work/ossify" convert "$work/from" "$work/to" >"$work/said" &
	pid=$! peak=0 start=$SECONDS
	while kill -0 $pid 2>/dev/null; do
		now=$(awk '/^VmHWM/ {print $2}' /proc/$pid/status 2>/dev/null || true)
		peak=${now:-$peak} # KiB; it never falls
		sleep 0.2
	done
	wait $pid
	echo "$kind: $(<"$work/said"), $((SECONDS - start)) s, peak memory $((peak / 1024)) MiB"
	[ "$peak" -lt 976562 ] || exit 1
	"$work/containers" sized "$kind" "$work/to"
done
