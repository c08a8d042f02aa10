#!/usr/bin/env bash
# Build the command for arm64 and run the kernels' harness there: under qemu-user
# on another processor, which is installed with apt-get if it is missing.
#
#   tools/arm64/run.sh              a reduced list of cases; under a minute
#   tools/arm64/run.sh -test.v      further flags of the test program
#
# The emulator computes floating point in software, so that of the matrix
# products a few widths must do, and what only VDPBF16PS could get wrong is
# left out. Works in build/arm64.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/build/arm64
mkdir -p "$work"
cd "$root"

export GOOS=linux GOARCH=arm64 CGO_ENABLED=0
go build -tags nobeam -o /dev/null ./cmd/ossify # all else: make platforms
go test -c -o "$work/kernel.test" ./kernel

emulator=
if [ "$(uname -sm)" != 'Linux aarch64' ]; then
	for name in qemu-aarch64 qemu-aarch64-static; do
		emulator=${emulator:-$(command -v $name || true)}
	done
	if [ -z "$emulator" ]; then
		sudo=
		[ "$(id -u)" = 0 ] || sudo=sudo
		$sudo apt-get update -qq
		$sudo apt-get install -y -qq --no-install-recommends qemu-user >/dev/null
		emulator=qemu-aarch64
	fi
fi
cd kernel
$emulator "$work/kernel.test" -test.short \
	-test.skip 'TestEdgeOfSubnormals|TestProducts/.*/cols=(1|2|31|32|63|64|65|90|96|100|128|160)$' "$@"
