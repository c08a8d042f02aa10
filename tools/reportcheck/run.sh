#!/usr/bin/env bash
# Check the pages of verify and sweep, of small models, with html-validate, and with axe-core in Chromium: light, dark, on a phone, without a network.
#
#   tools/reportcheck/run.sh                  pages that pass, pages that fail
#   tools/reportcheck/run.sh FILE...          these pages
#   tools/reportcheck/run.sh fetch            install what it needs, no more
#
# Needs Go, Node 20 with npm, Chromium (apt-get installs it if it is missing, for root) and the npm registry. Works in build/reportcheck, where
# the screenshots are in pictures/.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

source "$(dirname "$0")/../browser.sh"
browser_modules "$work/npm"
[ "${1-}" != fetch ] || exit 0
cp "$here/check.mjs" "$work/npm"

if [ $# -eq 0 ]; then
	goldens=$root/testdata/goldens
	(cd "$root" && go build -o bin/ossify ./cmd/ossify)
	ossify=$root/bin/ossify
	cd "$work"
	for seed in 1 2; do
		[ -d "tiny-$seed" ] || "$ossify" synth --preset tiny --seed "$seed" "tiny-$seed" >/dev/null
	done
	"$ossify" verify tiny-1 --golden "$goldens/tiny-f32.safetensors" --faults --html pass-f32.html >/dev/null
	"$ossify" verify tiny-1 --golden "$goldens/tiny-bf16.safetensors" --html pass-bf16.html >/dev/null
	# Another checkpoint's golden; a name that would be markup.
	! "$ossify" verify tiny-2 --golden "$goldens/tiny-bf16.safetensors" --no-hash --html fail-bf16.html >/dev/null 2>&1
	rm -rf hostile && mkdir hostile && cp -r tiny-1 'hostile/<b onclick=alert(1)>&"'
	"$ossify" verify 'hostile/<b onclick=alert(1)>&"' --length 40 --html hostile.html >/dev/null
	"$ossify" sweep 'hostile/<b onclick=alert(1)>&"' --runner local --elements 12 --lengths 17,60 --html sweep.html >/dev/null
	! "$ossify" sweep tiny-1 --runner local --elements 12 --lengths 17,60 --inject 'no sinks@3:4100' --html sweep-fail.html >/dev/null 2>&1
	set -- pass-f32.html pass-bf16.html fail-bf16.html hostile.html sweep.html sweep-fail.html
fi
node "$work/npm/check.mjs" "$chromium" "$work/pictures" "$@"
