# shellcheck shell=bash
# For scripts of this folder, which source it at the root of the repository: the
# reference is installed, and work is a folder with ossify in it, gone at the end.
tools/reference/setup.sh

mkdir -p build
work=$(mktemp -d build/reference.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # through EXIT
go build -o "$work/ossify" ./cmd/ossify
