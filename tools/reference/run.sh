#!/usr/bin/env bash
# Run the PyTorch reference live and compare us with it: synthesise a checkpoint
# from SEED, draw TOKENS tokens from the same seed, trace the reference in both
# precisions, verify with the best kernel set and then with every other that this
# machine has. Exits with 1 if any fails.
#
#   tools/reference/run.sh SEED TOKENS [PRESET]
#
# PRESET is tiny unless given. small takes 20 minutes and 9 GB of memory.
set -euo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
	echo "usage: tools/reference/run.sh SEED TOKENS [PRESET]" >&2
	exit 2
fi
seed=$1 tokens=$2 preset=${3:-tiny}
cd "$(dirname "$0")/../.."
source tools/reference/work.sh
"$work/ossify" synth --preset "$preset" --seed "$seed" "$work/$preset"

sets=$("$work/ossify" __complete verify "$work" --kernels "" 2>/dev/null) # best, and each by name
grep -qx portable <<<"$sets" || { echo "tools/reference: no kernel sets are listed" >&2; exit 1; }

status=0 verdicts=
for precision in bf16 f32; do
	trace=$work/$preset-$precision.safetensors
	build/reference-venv/bin/python tools/reference/trace.py "$work/$preset" \
		--tokens "random:$tokens:$seed" --precision $precision -o "$trace"
	tools/reference/streamed.sh "$work/$preset" "$trace" "$seed" "$tokens" $precision || status=1
	"$work/ossify" verify "$work/$preset" --golden "$trace" | tee "$work/report" || status=1
	verdicts="$verdicts $precision $(sed -n 's/^verdict: //p' "$work/report")"
	for set in $(sed '/^:/d; /^best$/d' <<<"$sets"); do
		"$work/ossify" verify "$work/$preset" --golden "$trace" --kernels "$set" >"$work/report-$set" || status=1
		verdict=$(sed -n 's/^verdict: //p' "$work/report-$set")
		echo "$precision, kernels $set: ${verdict:=none}"
		[ "$verdict" = pass ] || verdicts="$verdicts (with kernels $set: $verdict)" status=1
	done
	verdicts="$verdicts,"
done
echo "seed $seed, $tokens tokens, against the reference run just now:${verdicts%,}"
exit $status
