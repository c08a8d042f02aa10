#!/usr/bin/env bash
# Show on a small model what parity.sh promises: on a terminal it shows how far it
# is; Ctrl-C ends it, at any step, and leaves nothing half-written; the same command
# goes on; the verdict is pass, with a page. And a byte that is changed between
# PyTorch and the others is named at its stage, in both precisions and in ONNX.
#
#   tools/reference/parity-test.sh
#
# Some minutes. Works in build/parity-test.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/build/parity-test
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # through EXIT
tools/reference/setup.sh
tools/deps/install.sh
export OSSIFY_ONNXRUNTIME=${OSSIFY_ONNXRUNTIME:-$PWD/build/deps/onnxruntime}
python=build/reference-venv/bin/python
go build -o "$work/ossify" ./cmd/ossify
"$work/ossify" synth --preset tiny --vocab 201088 --seed 1 "$work/model" # the vocabulary of prompts
export STATE=$work/state

# until PATTERN SIGNAL: run parity.sh on a terminal, and end it when it has shown the
# pattern; without one, not at all. Prints how it ended and what it showed.
cat >"$work/until.py" <<'END'
import os, pty, re, signal, sys, time
pattern, name, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    for s in signal.SIGINT, signal.SIGHUP, signal.SIGTERM:
        signal.signal(s, signal.SIG_DFL)  # whoever started us may have ignored them
    os.execvp(command[0], command)
seen, sent = b"", False
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
    if pattern and not sent and re.search(pattern.encode(), seen):
        sent = True
        time.sleep(0.3)
        if name == "INT":
            os.write(terminal, b"\x03")
        else:
            os.kill(pid, getattr(signal, "SIG" + name))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(seen.decode(errors="replace").replace("\r", "\n"))
print(f"\nended: {code}")
END

fail() {
	echo "tools/reference: $1" >&2
	cat "$work/out" >&2
	exit 1
}
interrupted() {
	$python "$work/until.py" "$1" "$2" tools/reference/parity.sh "$work/model" >"$work/out"
	grep -q "^ended: $3$" "$work/out" || fail "$2 at $1: want exit code $3"
	grep -q 'the same command goes on from here' "$work/out" || fail "$2 at $1: it does not say so"
	left=$(find "$STATE" -name '*.part' -o -name '*.ossify-part' -o -name 'report.*')
	[ -z "$left" ] || fail "$2 at $1: left $left"
	# Nothing of it is at work any more: the lock is free.
	flock -n "$STATE/lock" true || fail "$2 at $1: something goes on"
	echo "$2 at $1: ended, nothing is left"
}
interrupted 'step 1 of 6: PyTorch' INT 130
interrupted 'pytorch bf16 +[0-9]+%, block' TERM 143
interrupted 'step 3 of 6: engine' INT 130
interrupted 'step 4 of 6: engine' HUP 129
interrupted 'step 5 of 6: ONNX' INT 130
interrupted 'verify: .*model.onnx' INT 130

$python "$work/until.py" '' '' tools/reference/parity.sh "$work/model" >"$work/out"
grep -q '^ended: 0$' "$work/out" || fail 'want exit code 0'
grep -q 'verdict: .*pass' "$work/out" || fail 'want the verdict pass'
[ "$(grep -c 'done before' "$work/out")" -ge 1 ] || fail 'it began anew'
for file in report.txt report.json report.html; do
	[ -s "$STATE/$file" ] || fail "no $file"
done
for column in 'bf16 pytorch' 'bf16 cached' 'f32 free' 'onnx onnx' 'f32 free: the same logits, absolutely'; do
	grep -qF "$column" "$STATE/report.txt" || fail "no $column in the report"
done
echo "then: pass, with a page"

# A byte is changed after PyTorch has read the checkpoint.
stage=block.2.mlp.mlp1
cp -r "$work/model" "$work/planted"
$python - "$STATE"/f32-*[0-9a-f].safetensors "$work/planted/model.safetensors" $stage <<'END'
import json, struct, sys
from safetensors import safe_open
*goldens, path, stage = sys.argv[1:]
golden = next(g for g in goldens if "routing" not in g)
with safe_open(golden, framework="pt") as f:
    expert = f.get_tensor(stage.replace("mlp1", "experts"))[0, 0].item()
with open(path, "r+b") as f:
    n, = struct.unpack("<Q", f.read(8))
    blocks = json.loads(f.read(n))[stage + "_weight.blocks"]
    size = 1
    for d in blocks["shape"][1:]:
        size *= d
    at = 8 + n + blocks["data_offsets"][0] + expert * size
    f.seek(at)
    byte = f.read(1)[0]
    f.seek(at)
    f.write(bytes([byte ^ 7]))
END
named() {
	local code=0
	"$work/ossify" verify "$@" >"$work/out" 2>&1 || code=$?
	[ $code -eq 1 ] || fail "a changed byte: exit code $code, want 1"
	grep -q "^first diverging stage: $stage" "$work/out" || fail "a changed byte is not named at $stage"
	grep '^first diverging stage' "$work/out"
}
for precision in bf16 f32; do
	golden=$(find "$STATE" -maxdepth 1 -name "$precision-*.safetensors" ! -name '*routing*')
	named "$work/planted" --golden "$golden" --routing "${golden%.safetensors}-routing.safetensors" --no-hash
done
"$work/ossify" export --trace -o "$work/planted/onnx" "$work/planted" >/dev/null
named "$work/model" --golden "$golden" --routing "${golden%.safetensors}-routing.safetensors" --onnx "$work/planted/onnx/model.onnx" --brief --decode 8
