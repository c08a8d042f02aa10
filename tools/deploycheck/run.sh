#!/usr/bin/env bash
# Judge what deploy/ and export --for triton hold, as far as that can be done without Docker, systemd, a cluster and Triton.
#
#   tools/deploycheck/run.sh
#
# Dockerfile: hadolint; its build command, run here; the binary, from an empty root as another user, asked and ended by SIGTERM. systemd: its own
# verify and security. Kubernetes: its JSON schemas. KServe: its Python client's models. Triton: its protobuf. Wrong variants of each must fail.
#
# Needs Go, Python 3.9 or later with venv, PyPI, root, curl; systemd-analyze where there is one. Works in build/deploycheck.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

packages() { # kserve's own needs are a server's
	sed '/^kserve==/d' "$here/requirements.txt" >"$work/others.txt"
	install -r "$work/others.txt"
	install --no-deps "$(grep -oE '^kserve==[0-9.]+' "$here/requirements.txt")"
}
if ! cmp -s "$here/requirements.txt" "$work/installed.txt"; then
	rm -rf "$work/venv"
	python3 -m venv "$work/venv"
	packages
	cp "$here/requirements.txt" "$work/installed.txt"
fi
deploy=$root/deploy
cd "$work"
check() { "$python" "$here/check.py" "$@"; }
# wrong NAME FILE SED COMMAND...: the command must fail on the file as sed changes it, which takes the place of FILE in it.
wrong() {
	local name=$1 file=$2 change=$3
	shift 3
	sed "$change" "$file" >"wrong-$(basename "$file")"
	if cmp -s "$file" "wrong-$(basename "$file")"; then
		echo "$name: sed changed nothing" >&2
		exit 1
	fi
	if "${@/#$file/wrong-$(basename "$file")}" >wrong.out 2>&1; then
		echo "$name: accepted" >&2
		exit 1
	fi
	echo "  refused: $name"
}

echo Dockerfile
"$work/venv/bin/hadolint" --failure-threshold info "$deploy/Dockerfile"
wrong 'an image without a tag' "$deploy/Dockerfile" 's/golang:1.26-bookworm/golang/' "$work/venv/bin/hadolint" --failure-threshold info "$deploy/Dockerfile"
build=$(sed -n 's/^RUN \(CGO_ENABLED=0 go build.*\)/\1/p' "$deploy/Dockerfile")
rm -rf image && mkdir image
build=${build/-trimpath /} # which is no other program, but is built from nothing
(cd "$root" && eval "${build/-o \/ossify/-o $work/image/ossify}")
file image/ossify | grep -q 'statically linked'
rm -rf image/model && image/ossify synth --preset trained image/model >/dev/null
chmod -R a+rX image
chroot --userspec=65532:65532 image /ossify serve /model --addr 127.0.0.1:0 --log json 2>image.log &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 300); do
	url=$(grep -oE 'http://[0-9.:]+' image.log | head -1 || true)
	[ -n "$url" ] && break
	sleep 0.1
done
curl -fsS "$url/health" "$url/ready" && echo
curl -fsS "$url/v1/chat/completions" -H 'Content-Type: application/json' -d '{"model":"model","temperature":0,"messages":[{"role":"user","content":"What is 3 + 4?"}]}' | grep -o '"content":"[^"]*"'
kill -TERM $server
wait $server
trap - EXIT

if command -v systemd-analyze >/dev/null; then
	echo systemd
	sed "s#/usr/local/bin/ossify#$work/image/ossify#" "$deploy/ossify.service" >ossify.service
	judged() { systemd-analyze verify "$1" 2>&1 | tee verify.out; [ ! -s verify.out ] && systemd-analyze security --offline=true --threshold=15 "$1" >security.out && tail -1 security.out; }
	judged ossify.service
	for change in 's/^ProtectSystem=strict/ProtectSistem=strict/' 's/^CapabilityBoundingSet=$/CapabilityBoundingSet=~CAP_KILL/;s/^PrivateUsers=yes//;s/^NoNewPrivileges=yes//;s/^DynamicUser=yes//'; do
		wrong "$change" ossify.service "$change" judged ossify.service
	done
fi

echo Kubernetes
versions=(1.30 1.33 1.37)
check kubernetes "$deploy/kubernetes.yaml" "${versions[@]}"
for change in 's/readOnlyRootFilesystem: true/readOnlyRootFileSystem: true/' 's/containerPort: 8080/containerPort: "8080"/' 's/runAsNonRoot: true/runAsNonRoot: false/' \
	's/path: \/ready, port: http/path: \/ready, port: web/' 's/claimName: ossify-model/claimName: other/' 's/accessModes/accessMode/'; do
	wrong "$change" "$deploy/kubernetes.yaml" "$change" check kubernetes "$deploy/kubernetes.yaml" "${versions[@]}"
done

echo KServe
check kserve "$deploy/kserve.yaml"
for change in 's/minReplicas: 1/minReplica: 1/' 's/timeout: 3600/timeout: "an hour"/' 's/mountPath: \/keys/mountpath: \/keys/' 's/ - name: kserve-container/ - image: x/' 's/v1beta1/v1/'; do
	wrong "$change" "$deploy/kserve.yaml" "$change" check kserve "$deploy/kserve.yaml"
done

echo Triton
rm -rf models && mkdir models
image/ossify export image/model -o models/trained --for triton --last --ort-library /opt/libossify_ort.so >/dev/null
image/ossify export image/model -o models/open --for triton >/dev/null
check triton models/trained /opt/libossify_ort.so
check triton models/open
cp models/open/config.pbtxt right.pbtxt
for change in '/attention_mask/d' 's/TYPE_INT64/TYPE_INT32/' 's/past_key_values.3.value/past_key_values.3.valeu/' 's/max_batch_size/most_batch_size/' '/name: "logits"/s/-1, -1/-1/'; do
	cp right.pbtxt models/open/config.pbtxt
	sed "$change" right.pbtxt >models/open/config.pbtxt
	if cmp -s right.pbtxt models/open/config.pbtxt || check triton models/open >wrong.out 2>&1; then
		echo "$change: accepted" >&2
		exit 1
	fi
	echo "  refused: $change"
done
echo passed
