#!/usr/bin/env bash
# Store synthetic checkpoints as Orbax, Flax and PyTorch programs do, convert them,
# and compare every value and the logits with the checkpoint they were made of.
#
#   tools/containers/run.sh                 tiny and small: 8 GB of disk, some minutes
#   tools/containers/run.sh tiny            half a minute
#   tools/containers/run.sh fixtures        write the fixtures of go test anew
#   tools/containers/run.sh slices tiny     compare slices with gpt_oss.torch's (downloads PyTorch)
#
# Needs Go, Python 3.11 with venv, and PyPI. Works in build/containers.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

kinds=(bf16 bf16-hf msgpack msgpack-chunks plain plain3 ocdbt ocdbt3 chunks chunks3)
(cd "$root" && go build -o "$work/ossify" ./cmd/ossify && go build -o "$work/containers" ./tools/containers)
cd "$work"

if [ "${1-}" = slices ]; then
	preset=${2:-tiny}
	(cd "$root" && tools/reference/setup.sh)
	rm -rf slices "$preset" && ./ossify synth --preset "$preset" "$preset"
	for ranks in 1 2 4 8; do
		for ((rank = 0; rank < ranks; rank++)); do
			./ossify convert "$preset" "slices/$ranks-$rank" --rank $rank --ranks $ranks
		done
	done
	"$root/build/reference-venv/bin/python" "$here/slices.py" "$preset" slices
	if [ "$preset" = tiny ]; then
		"$root/build/reference-venv/bin/python" "$here/slices.py" tiny | diff - "$root/convert/testdata/slices.txt"
	fi
	exit
fi

venv
if [ "${1-}" = fixtures ]; then
	rm -rf micro && ./containers micro micro
	"$python" "$here/write.py" micro fixtures ocdbt plain plain3 chunks3 msgpack-chunks
	for kind in ocdbt plain plain3 chunks3 msgpack-chunks; do
		./containers pack "fixtures/$kind" "$root/convert/testdata/$kind.zip"
	done
	"$python" "$here/trees.py" trees
	./containers pack trees "$root/convert/ocdbt/testdata/trees.zip"
	exit
fi

[ $# -gt 0 ] || set -- tiny small
for preset; do
	rm -rf "$preset" && ./ossify synth --preset "$preset" "$preset"
	for kind in "${kinds[@]}"; do
		# Chunks of 5 kB are for small arrays.
		case $preset-$kind in *-chunks*) [ "$preset" = tiny ] || continue ;; esac
		"$python" "$here/write.py" "$preset" written "$kind" 2>/dev/null
		for layout in original hf; do
			rm -rf converted
			./ossify convert "written/$kind" converted --layout $layout
			./containers same "$preset" converted
		done
		rm -rf written converted
	done
done
