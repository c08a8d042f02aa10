#!/usr/bin/env bash
# Make testdata/goldens anew: PyTorch's traces of the checkpoints that
# `ossify synth` writes from seed 1. Takes 15 minutes and 9 GB of memory.
#
#   tools/reference/goldens.sh          both presets
#   tools/reference/goldens.sh tiny     one of them, in a minute
#
# Same versions and same kind of processor: same bytes (SHA256SUMS says so).
# testdata/README.md has the reasons for the lengths and positions.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools/reference/setup.sh

mkdir -p build
work=$(mktemp -d build/goldens.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # through EXIT
go build -o "$work/ossify" ./cmd/ossify

[ $# -gt 0 ] || set -- tiny small
for preset; do
	case $preset in
	tiny) options='--tokens random:420:1 --positions 0-35,200-208,390-419 --check-portions' ;;
	small) options='--tokens random:160:1 --positions 0,1,127-129,159' ;;
	*)
		echo "tools/reference: no goldens of preset $preset" >&2
		exit 2
		;;
	esac
	"$work/ossify" synth --preset "$preset" --seed 1 "$work/$preset"
	for precision in bf16 f32; do
		# shellcheck disable=SC2086 # options are words
		build/reference-venv/bin/python tools/reference/trace.py "$work/$preset" $options \
			--precision $precision -o "testdata/goldens/$preset-$precision.safetensors"
	done
	rm -rf "${work:?}/$preset"
done
cd testdata/goldens
sha256sum -- *.safetensors >SHA256SUMS
