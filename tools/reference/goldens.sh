#!/usr/bin/env bash
# Make testdata/goldens anew: PyTorch's traces of the checkpoints that
# `ossify synth` writes from seed 1. Takes 15 minutes and 9 GB of memory.
#
#   tools/reference/goldens.sh          all of them
#   tools/reference/goldens.sh tiny     one of them, in a minute
#   tools/reference/goldens.sh far      published heads at far positions
#   tools/reference/goldens.sh long     20b's attention, longer than two windows
#   tools/reference/goldens.sh trained  the small trained model, on what it was trained for
#
# Same versions and same kind of processor: same bytes (SHA256SUMS says so).
# testdata/README.md has the reasons for the lengths and positions.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/reference/work.sh

[ $# -gt 0 ] || set -- tiny small long prompt far trained
for name; do
	preset="--preset $name"
	case $name in
	tiny) options='--tokens random:420:1 --positions 0-35,200-208,390-419 --steps 0,15-17,208,405,418,419 --check-portions' ;;
	small) options='--tokens random:160:1 --positions 0,1,127-129,159 --steps none' ;;
	long) # small with narrow experts, which take the time: 264 tokens pass through the cache one by one
		preset='--preset small --inner 64'
		options='--tokens random:328:1 --positions 0,63,127-129,255-257,327 --steps 128,257,327'
		;;
	prompt) # tiny with all tokens, on a rendered conversation
		preset='--preset tiny --vocab 201088'
		ids=$(python3 -c 'import json; print(*json.load(open("testdata/prompts/user.json"))["ids"], sep=",")')
		options="--tokens $ids --positions 0,17,63 --steps none"
		;;
	trained) # the model that comes with ossify, on what it was trained for
		preset='--preset trained'
		ids=$(python3 -c 'import json; print(*json.load(open("testdata/prompts/trained.json"))["ids"], sep=",")')
		options="--tokens $ids --positions 1,33,64,65,119,129,169,177,181,190,219,259,300 --steps none"
		;;
	far) # published heads, at far positions: beside 1,500, 3,000 and 4,096, and the last
		preset='--preset tiny --layers 2 --vocab 256 --head-dim 64 --window 8'
		options=''
		;;
	*)
		echo "tools/reference: no goldens named $name" >&2
		exit 2
		;;
	esac
	# shellcheck disable=SC2086 # preset and options are words
	case $name in trained) seed= ;; *) seed="--seed 1" ;; esac
	# shellcheck disable=SC2086
	"$work/ossify" synth $preset $seed "$work/$name"
	for precision in bf16 f32; do
		if [ "$name" = far ]; then
			for first in 1490 2990 4088 131056; do
				echo "$work/far --tokens random:16:$first --first $first --steps none --precision $precision" \
					"-o testdata/goldens/far-$first-$precision.safetensors"
			done >"$work/jobs"
			build/reference-venv/bin/python tools/reference/trace.py --jobs "$work/jobs" --check-portions
			continue
		fi
		# shellcheck disable=SC2086
		build/reference-venv/bin/python tools/reference/trace.py "$work/$name" $options \
			--precision $precision -o "testdata/goldens/$name-$precision.safetensors"
	done
	rm -rf "${work:?}/$name"
done
(cd testdata/goldens && sha256sum -- *.safetensors >SHA256SUMS)
