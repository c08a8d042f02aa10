#!/usr/bin/env bash
# Compare us with PyPI's transformers on a checkpoint in its layout: logits, and
# what becomes of each key of config.json (docs/configuration.md).
#
#   tools/transformers/run.sh            the release that requirements.txt pins
#   tools/transformers/run.sh 4.55.4     another one
#
# Needs Go and Python 3.10 or later with venv. Downloads PyTorch, about 3 GB, into
# build/transformers-RELEASE; takes two minutes after that.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tools/transformers
release=${1:-$(sed -n 's/^transformers==//p' $here/requirements.txt)}
venv=build/transformers-$release
mkdir -p build
work=$(mktemp -d build/transformers.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # through EXIT

sed "s/^transformers==.*/transformers==$release/" $here/requirements.txt >"$work/requirements.txt"
if ! cmp -s "$work/requirements.txt" "$venv.txt"; then
	rm -rf "$venv"
	"${PYTHON:-python3}" -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$work/requirements.txt"
	cp "$work/requirements.txt" "$venv.txt" # says that all is here
fi
go build -o "$work/ossify" ./cmd/ossify
"$work/ossify" synth --preset tiny --layout hf --seed 1 "$work/tiny"
"$venv/bin/python" $here/compare.py "$work/ossify" "$work/tiny"
