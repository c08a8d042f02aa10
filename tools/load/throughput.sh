#!/usr/bin/env bash
# Tokens a second of 8 clients beside those of one, in turns, on a synthetic 20b served by ossify.
#
#   tools/load/throughput.sh                 a whole 20b: 14 GB of disk and memory, some 20 minutes of a quiet machine
#   PRESET=small tools/load/throughput.sh    20b's widths in two layers, 1 GB: to try the script
#   CKPT=DIR tools/load/throughput.sh        a checkpoint that is there
#
# ROUNDS (3) turns of each, CLIENTS (8), TOKENS (64) of each answer, REQUESTS (2) of each client, WANT (2.3): less is exit code 1.
# SERVE are more flags of serve, as --pack. Every prompt and answer has the same length; no answer ends early.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

preset=${PRESET:-20b} want=${WANT:-2.3}
ckpt=${CKPT:-$work/$preset}
(cd "$root" && go build -o "$work/ossify" ./cmd/ossify && go build -o "$work/load" ./tools/load)
if [ ! -e "$ckpt/config.json" ]; then
	"$work/ossify" synth --preset "$preset" --vocab 201088 "$ckpt"
fi
# shellcheck disable=SC2086
"$work/ossify" serve "$ckpt" --addr 127.0.0.1:0 --name model --log off ${SERVE:-} 2>"$work/serve.log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server || true' EXIT
until grep -q '^serving ' "$work/serve.log"; do
	kill -0 $server || { cat "$work/serve.log" >&2; exit 1; }
	sleep 0.5
done
url=$(grep -o 'https\?://[^ ]*' "$work/serve.log" | head -1)
# Once without a clock, so that all weights were read.
"$work/load" -path /v1/completions -fixed -words 16 -tokens 4 -clients 1 -requests 1 "$url" model >/dev/null
"$work/load" -path /v1/completions -fixed -words 16 -tokens "${TOKENS:-64}" -clients "1,${CLIENTS:-8}" -requests "${REQUESTS:-2}" -rounds "${ROUNDS:-3}" -pid $server "$url" model | tee "$work/throughput"
awk -v want="$want" '/times the tokens/ { seen = 1; ok = $3 >= want; print ($3 >= want ? "at least " : "less than ") want } END { exit !(seen && ok) }' "$work/throughput"
