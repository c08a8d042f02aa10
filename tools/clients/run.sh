#!/usr/bin/env bash
# Official clients against our server, which a script answers for.
#
#   tools/clients/run.sh                all
#   tools/clients/run.sh python         one of python, node and go
#   tools/clients/run.sh compat DIR     openai/gpt-oss's own compatibility-test, from a checkout of it: both APIs, and chat streamed
#
# Needs Go, Python 3.9 or later with venv, Node 20 with npm, PyPI, the npm registry and the Go module proxy. Works in build/clients.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

[ $# -gt 0 ] || set -- python node go
cases=()
if [ "$1" = compat ]; then
	theirs=${2:?want the folder compatibility-test of a checkout of openai/gpt-oss}
	cases=(-cases "$theirs/cases.jsonl")
	set -- compat
fi
key=a-key-of-the-clients
(cd "$root" && go build -o "$work/scripted" ./tools/clients/scripted)
rm -rf "$work/address" "$work/batches"
"$work/scripted" -key "$key" -batches "$work/batches" "${cases[@]}" >"$work/address" &
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
		node_modules "$work/npm"
		cp "$here/check.mjs" "$work/npm"
		node "$work/npm/check.mjs" "$url" "$key"
		;;
	go)
		(cd "$here/openaigo" && go build -o "$work/openaigo" .)
		"$work/openaigo" "$url" "$key"
		;;
	compat)
		rm -rf "$work/compat"
		mkdir -p "$work/compat"
		cp "$theirs"/*.ts "$theirs"/*.json "$theirs/cases.jsonl" "$work/compat"
		cd "$work/compat"
		npm ci --ignore-scripts --silent
		npm install --no-save --ignore-scripts --silent tsx@4
		# Their instructions: an entry of providers.ts. Of streams, theirs reads those of chat only.
		provider() {
			echo "export const PROVIDERS = { ossify: { apiBaseUrl: \"$url/v1\", apiKey: \"$key\", apiType: $1, modelName: \"gpt-oss\", providerDetails: {} } };" >providers.ts
		}
		provider '["responses", "chat"]'
		npx tsx index.ts --provider ossify -k 5 --strict | sed -n '/^Summary/,$p' | tee summary
		provider '["chat"]'
		npx tsx index.ts --provider ossify -k 5 --streaming | sed -n '/^Summary/,$p' | tee streamed
		grep -q 'Total runs: 300' summary && grep -q 'pass^k (k=5): 1.000' summary && grep -q 'Total runs: 150' streamed && grep -q 'pass^k (k=5): 1.000' streamed
		;;
	*)
		echo "no client $client, want python, node or go" >&2
		exit 2
		;;
	esac
done
