#!/usr/bin/env bash
# Run the PyTorch reference live on many models and lengths, and judge each run
# and ours on it: a right run must pass. Exits with 1 if one does not.
#
#   tools/reference/live.sh RUNS [FIRST_SEED]
#
# A run is a trace of one sequence in one precision. Each seed makes a checkpoint
# of its own (tiny, or with the published heads) and gives 20 runs: ten lengths
# from 1 to 300, in both precisions. PyTorch is one process, and loads a model
# once. About 2 seconds a run.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
	echo "usage: tools/reference/live.sh RUNS [FIRST_SEED]" >&2
	exit 2
fi
runs=$1 first=${2:-1}
cd "$(dirname "$0")/../.."
source tools/reference/work.sh

count=0 seed=$first
while [ $count -lt "$runs" ]; do
	preset='--preset tiny'
	[ $((seed % 4)) -ne 0 ] || preset='--preset tiny --layers 2 --head-dim 64'
	# shellcheck disable=SC2086 # preset is words
	"$work/ossify" synth $preset --seed $seed "$work/$seed"
	for precision in bf16 f32; do
		for i in 0 1 2 3 4 5 6 7 8 9; do
			case $i in
			0 | 1 | 2) length=$((i + 1)) ;; # the shortest, with every seed
			*) length=$((1 + (seed * 7919 + i * 104729) % 300)) ;;
			esac
			echo "$work/$seed --tokens random:$length:$((seed + i)) --precision $precision -o $work/$seed-$length-$i-$precision.trace"
			count=$((count + 1))
		done
	done >>"$work/jobs"
	seed=$((seed + 1))
done
build/reference-venv/bin/python tools/reference/trace.py --jobs "$work/jobs" >"$work/log" &
torch=$!
passed=0 failed=0
while read -r folder _ tokens _ precision _ trace; do
	until grep -qs "^$trace: " "$work/log"; do
		kill -0 $torch 2>/dev/null || grep -qs "^$trace: " "$work/log" || {
			echo "tools/reference: PyTorch ended without $trace" >&2
			exit 1
		}
		sleep 0.2
	done
	if "$work/ossify" verify "$folder" --golden "$trace" --no-hash >"$work/report"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "seed ${folder##*/}, $tokens, $precision:"
		cat "$work/report"
	fi
	rm -f "$trace"
done <"$work/jobs"
wait $torch
echo "$passed of $((passed + failed)) right runs pass, seeds $first to $((seed - 1))"
[ $failed -eq 0 ]
