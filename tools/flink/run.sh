#!/usr/bin/env bash
# ossify batch on a real Flink: a local cluster of two task managers, of which one
# is killed in the middle; the answers are compared with those of one process.
#
#   tools/flink/run.sh JAR [REQUESTS]
#
# JAR is Beam's job server for Flink, from Maven:
#   org.apache.beam:beam-runners-flink-1.20-job-server:2.77.0
# REQUESTS is how many there are (default 600). KILL=0 kills nobody.
#
# Needs Go, Java 11 or 17, Python 3.9 or later with venv, and PyPI, from which Flink itself
# comes. Works in build/flink; ports 8081, 8097 to 8099 and 6123.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

if [ $# -lt 1 ] || [ ! -f "$1" ]; then
	echo 'want the job server: run.sh beam-runners-flink-1.20-job-server-2.77.0.jar [REQUESTS]' >&2
	exit 2
fi
jar=$(realpath "$1")
requests=${2:-600}
venv python3
flink=$("$python" -c 'import importlib.util as u; print(u.find_spec("pyflink").submodule_search_locations[0])')
chmod +x "$flink"/bin/*.sh

# Workers run this very program, and Beam's boot program, which fetches it. Neither
# needs a C library.
export CGO_ENABLED=0
(cd "$root" && go build -tags noort -o "$work/ossify" ./cmd/ossify &&
	go build -o "$work/boot" github.com/apache/beam/sdks/v2/go/container)
[ -e "$work/tiny/config.json" ] || "$work/ossify" synth --preset tiny --vocab 201088 "$work/tiny"
"$python" "$here/check.py" make "$requests" "$work/in.jsonl"

# The cluster: two task managers of two slots, which try again when one is lost.
run=$work/run
rm -rf "$run" "$work/out" "$work/alone"
mkdir -p "$run/conf" "$run/log" "$run/artifacts"
cp "$flink"/conf/* "$run/conf"
rm -f "$run/conf/flink-conf.yaml"
cat >"$run/conf/config.yaml" <<EOF
jobmanager.rpc.address: localhost
jobmanager.rpc.port: 6123
jobmanager.memory.process.size: 1g
taskmanager.memory.process.size: 1500m
taskmanager.numberOfTaskSlots: 2
parallelism.default: 4
rest.address: localhost
rest.bind-address: localhost
rest.port: 8081
heartbeat.timeout: 20000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 20
restart-strategy.fixed-delay.delay: 2 s
EOF
export FLINK_CONF_DIR=$run/conf FLINK_LOG_DIR=$run/log FLINK_PID_DIR=$run
server=
end() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	for name in taskmanager taskmanager jobmanager; do
		"$flink/bin/$name.sh" stop >/dev/null 2>&1 || true
	done
}
trap end EXIT
"$flink/bin/jobmanager.sh" start
"$flink/bin/taskmanager.sh" start
"$flink/bin/taskmanager.sh" start
java -jar "$jar" --flink-master localhost:8081 --job-host localhost --job-port 8099 --artifact-port 8098 \
	--expansion-port 8097 --artifacts-dir "$run/artifacts" >"$run/log/jobserver.log" 2>&1 &
server=$!

slots() {
	"$python" -c 'import json, urllib.request as u; print(json.load(u.urlopen("http://localhost:8081/overview"))["slots-total"])' 2>/dev/null || echo 0
}
for _ in $(seq 120); do
	[ "$(slots)" = 4 ] && (exec 3<>/dev/tcp/localhost/8099) 2>/dev/null && break
	sleep 1
done
[ "$(slots)" = 4 ] || {
	echo "no cluster of 4 slots; see $run/log" >&2
	exit 1
}

"$work/ossify" batch "$work/tiny" --in "$work/in.jsonl" --out "$work/out" --name m --shard 20 --threads 1 \
	--runner flink --endpoint localhost:8099 --beam-option parallelism=4 --beam-option job_name=ossify \
	--beam-option environment_type=PROCESS --beam-option "environment_config={\"command\":\"$work/boot\"}" &
batch=$!
if [ "${KILL:-1}" = 1 ]; then
	until compgen -G "$work/out/output-*.jsonl" >/dev/null; do
		kill -0 "$batch" || exit 1
		sleep 0.2
	done
	# The first line of Flink's own list is one task manager's process.
	victim=$(head -1 "$run"/flink-*-taskexecutor.pid)
	kill -9 "$victim"
	echo "killed the task manager $victim with $(cat "$work"/out/output-*.jsonl | wc -l) lines answered in whole shards"
fi
wait "$batch"

"$work/ossify" batch "$work/tiny" --in "$work/in.jsonl" --out "$work/alone" --name m --shard 20 --runner local
"$python" "$here/check.py" same "$work/in.jsonl" "$work/alone" "$work/out"
