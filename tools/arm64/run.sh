#!/usr/bin/env bash
# Build the kernels' harness for arm64 and run it there: under qemu-user on another
# processor, which is installed with apt-get if it is missing.
#
#   tools/arm64/run.sh              a reduced list of cases; under a minute
#   tools/arm64/run.sh -test.v      further flags of the test program
#   tools/arm64/run.sh fetch        install what it needs, no more
#
# The emulator computes floating point in software, so that of the matrix
# products a few widths must do, and what only VDPBF16PS could get wrong is
# left out. Works in build/arm64.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/build/arm64
mkdir -p "$work"
cd "$root"

emulator=
if [ "$(uname -sm)" != 'Linux aarch64' ]; then
	for name in qemu-aarch64 qemu-aarch64-static; do
		emulator=${emulator:-$(command -v $name || true)}
	done
	if [ -z "$emulator" ]; then
		source tools/apt.sh
		packages qemu-user
		emulator=qemu-aarch64
	fi
fi
[ "${1-}" != fetch ] || exit 0
GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go test -vet=off -c -o "$work/kernel.test" ./kernel # all else: make platforms
cd kernel
$emulator "$work/kernel.test" -test.short \
	-test.skip 'TestEdgeOfSubnormals|TestProducts/.*/cols=(1|2|31|32|63|64|65|90|96|100|128|160)$' "$@"
