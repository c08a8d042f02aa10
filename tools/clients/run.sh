#!/usr/bin/env bash
# Official clients against our server, which a script answers for.
#
#   tools/clients/run.sh                all
#   tools/clients/run.sh python         one of python, node and go
#
# Needs Go, Python 3.9 or later with venv, Node 20 with npm, PyPI, the npm registry and the Go module proxy. Works in build/clients.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

[ $# -gt 0 ] || set -- python node go
key=a-key-of-the-clients
(cd "$root" && go build -o "$work/scripted" ./tools/clients/scripted)
rm -rf "$work/batches"
"$work/scripted" -key "$key" -batches "$work/batches" >"$work/address" &
server=$!
trap 'kill -INT $server; wait $server' EXIT
for _ in $(seq 100); do
	[ -s "$work/address" ] && break
	sleep 0.1
done
url=$(cat "$work/address")

for client; do
	case $client in
	python)
		venv
		"$python" "$here/check.py" "$url" "$key"
		;;
	node)
		if ! cmp -s "$here/package-lock.json" "$work/npm/package-lock.json"; then
			mkdir -p "$work/npm"
			cp "$here/package.json" "$here/package-lock.json" "$work/npm"
			npm ci --prefix "$work/npm" --ignore-scripts --silent
		fi
		cp "$here/check.mjs" "$work/npm"
		node "$work/npm/check.mjs" "$url" "$key"
		;;
	go)
		go -C "$here/openaigo" run . "$url" "$key"
		;;
	*)
		echo "no client $client, want python, node or go" >&2
		exit 2
		;;
	esac
done
