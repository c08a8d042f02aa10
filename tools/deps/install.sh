#!/bin/sh
# Installs ONNX Runtime's shared library into build/deps/onnxruntime, from the
# wheel on PyPI that requirements.txt pins. Needs python3 with pip, and no
# particular version of either.
set -eu
cd "$(dirname "$0")/../.."
to=build/deps/onnxruntime
from=tools/deps/requirements.txt

version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' $from)
if [ -e "$to/$version" ]; then
	exit 0
fi
case "$(uname -s) $(uname -m)" in
'Linux x86_64') platform=manylinux_2_28_x86_64 ;;
'Linux aarch64') platform=manylinux_2_28_aarch64 ;;
'Darwin arm64') platform=macosx_14_0_arm64 ;;
*)
	echo "tools/deps: no pinned wheel for $(uname -s) $(uname -m); install ONNX Runtime yourself and give its path with --onnxruntime" >&2
	exit 1
	;;
esac
if ! python3 -m pip --version >/dev/null 2>&1; then
	echo "tools/deps: want python3 with pip to download ONNX Runtime $version" >&2
	exit 1
fi

mkdir -p build/deps
tmp=$(mktemp -d build/deps/tmp.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM # through EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
	--python-version 3.12 --implementation cp --abi cp312 --platform $platform -r $from -d "$tmp"
python3 -m zipfile -e "$tmp"/*.whl "$tmp/wheel"
mkdir "$tmp/out"
mv "$tmp"/wheel/onnxruntime/capi/libonnxruntime.* "$tmp"/wheel/onnxruntime/LICENSE "$tmp"/wheel/onnxruntime/ThirdPartyNotices.txt "$tmp/out"
touch "$tmp/out/$version" # says that all is here
rm -rf $to
mv "$tmp/out" $to
echo "$to: ONNX Runtime $version"
