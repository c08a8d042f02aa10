#!/usr/bin/env bash
# Install the PyTorch reference into build/reference-venv, as requirements.txt
# and gpt-oss.txt pin it. Does nothing when that is done. Downloads PyTorch:
# about 3 GB, 6 GB installed. PYTHON names the interpreter, 3.11 or later.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tools/reference
venv=build/reference-venv
python=${PYTHON:-python3}

if cat $here/requirements.txt $here/gpt-oss.txt | cmp -s - $venv/installed.txt; then
	exit 0
fi
if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	echo "tools/reference: $python is not Python 3.11 or later with venv; name another in PYTHON" >&2
	exit 1
fi
echo "tools/reference: installing PyTorch into $venv" >&2
rm -rf $venv
"$python" -m venv $venv
pip="$venv/bin/python -m pip --disable-pip-version-check --quiet install"
$pip -r $here/requirements.txt
$pip --no-deps --ignore-requires-python --require-hashes -r $here/gpt-oss.txt
cat $here/requirements.txt $here/gpt-oss.txt >$venv/installed.txt # says that all is here
