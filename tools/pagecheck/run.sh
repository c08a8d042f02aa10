#!/usr/bin/env bash
# Use the server's page in headless Chromium: conversations, reasoning, calls, keys, verification; html-validate and axe-core in light, dark
# and on a phone.
#
#   tools/pagecheck/run.sh
#   tools/pagecheck/run.sh fetch    install what it needs, no more
#
# Needs Go, Node 20 with npm, Chromium (apt-get installs it if it is missing, for root) and the npm registry. Works in build/pagecheck, where
# the screenshots are in pictures/.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"
source "$(dirname "$0")/../browser.sh"
browser_modules "$work/npm"
[ "${1-}" != fetch ] || exit 0
cp "$here/check.mjs" "$work/npm"

cd "$work"
(cd "$root" && go build -o "$work/scripted" ./tools/clients/scripted && go build -o bin/ossify ./cmd/ossify)
ossify=$root/bin/ossify
[ -d trained ] || "$ossify" synth --preset trained trained
"$ossify" verify trained --precision bf16 --length 96 --json >verified.json

servers=()
trap 'kill "${servers[@]}"; wait "${servers[@]}" || true' EXIT
serve() { # NAME COMMAND...: starts a server, whose address becomes urls[NAME]
	local name=$1
	shift
	"$@" >"$name.out" 2>"$name.err" &
	servers+=($!)
	for _ in $(seq 6000); do
		url=$(grep -ohE -m1 'https?://[0-9.:]+' "$name.out" "$name.err" | head -1 || true)
		[ -n "$url" ] && break
		kill -0 "${servers[-1]}" || { cat "$name.err" >&2; exit 1; }
		sleep 0.1
	done
	[ -n "$url" ] || { echo "$name says no address" >&2; exit 1; }
	urls[$name]=$url
}
declare -A urls
key=a-key-of-the-pagecheck
serve none ./scripted -page '{"command": "ossify verify DIR --precision bf16 --json > verified.json"}'
serve fail ./scripted -page '{"verdict": "fail", "made": "2026-01-02T03:04:05Z", "facts": [["verdict", "fail"], ["first diverging", "block.3.mlp.mlp1, free"], ["checkpoint", "'"$(printf '0%.0s' {1..64})"'"], ["<b onclick=alert(1)>", "<script>alert(1)</script>"]], "cautions": ["The report is of f32, this server computes in bf16."]}'
serve key ./scripted -key "$key" -page '{"verdict": "pass", "made": "2026-01-02T03:04:05Z", "facts": [["verdict", "pass"]]}'
serve trained "$ossify" serve trained --addr 127.0.0.1:0 --verified verified.json --log off
mkdir -p pictures
node npm/check.mjs "$chromium" pictures "$key" "${urls[none]}" "${urls[fail]}" "${urls[key]}" "${urls[trained]}"
