#!/usr/bin/env bash
# Load the packages of a small model in the programs that they are for.
#
#   tools/packcheck/run.sh                    onnxruntime-genai and transformers.js; two minutes, then less
#   tools/packcheck/run.sh transformersjs browser   transformers.js in Node and in headless Chromium
#   PRESET=small tools/packcheck/run.sh genai       one of them, of two layers of 20b's width: 7 GB of disk; all: 20 GB of disk, 12 GB of memory; too large for the browser
#   tools/packcheck/run.sh optimum            optimum, with PyTorch, 3 GB
#   tools/packcheck/run.sh fetch              install what the first needs, no more
#
# Needs Go, Python 3.11 with venv, Node 20 with npm, PyPI and the npm registry. Works in build/packcheck.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

venv
if [ "${1-}" = fetch ]; then
	node_modules "$work/npm"
	exit
fi
[ $# -gt 0 ] || set -- genai transformersjs
(cd "$root" && go run ./tools/packcheck -preset "${PRESET:-tiny}" -for "${*/#browser/transformersjs}" "$work/cases")

for program; do
	echo "$program"
	case $program in
	transformersjs)
		node_modules "$work/npm"
		cp "$here"/*.mjs "$work/npm"
		node "$work/npm/check.mjs" "$work/cases"
		;;
	browser) # after transformersjs
		node "$work/npm/browser.mjs" "$work/cases"
		;;
	optimum)
		install torch==2.15.0 transformers==4.57.6 optimum==2.1.0 optimum-onnx==0.1.0 jinja2==3.1.6
		"$python" "$here/check.py" optimum "$work/cases"
		;;
	*) "$python" "$here/check.py" "$program" "$work/cases" ;;
	esac
done
