#!/usr/bin/env bash
# Compare us with PyPI openai-harmony, live.
#
#   tools/harmonydiff/run.sh                       a few hundred records of each kind
#   tools/harmonydiff/run.sh --conversations 5000 --streams 5000 --seed 7
#   tools/harmonydiff/run.sh python FILE.py ...    another script with the same reference
#   tools/harmonydiff/run.sh fetch                 install what it needs, no more
#
# Needs Go, Python 3.9 or later with venv, and PyPI. Works in build/harmonydiff.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

venv
[ "${1-}" != fetch ] || exit 0
if [ ! -f "$work/o200k_base.tiktoken" ]; then
	(cd "$root" && go run ./tools/harmonydiff/ranks >"$work/ranks.tmp")
	mv "$work/ranks.tmp" "$work/o200k_base.tiktoken"
fi
export TIKTOKEN_ENCODINGS_BASE=$work

if [ "${1-}" = python ]; then
	shift
	exec "$python" "$@"
fi
"$python" "$here/generate.py" "$@" >"$work/records.tmp"
mv "$work/records.tmp" "$work/records.jsonl"
cd "$root"
go build -o bin/ossify ./cmd/ossify
exec bin/ossify conform "$work/records.jsonl"
