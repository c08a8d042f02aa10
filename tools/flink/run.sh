#!/usr/bin/env bash
# ossify batch on a real Flink: a local cluster of two task managers, of which one
# is killed in the middle; the answers are compared with those of one process.
#
#   tools/flink/run.sh [REQUESTS]
#
# REQUESTS is how many there are (default 600). KILL=0 kills nobody.
#
# Needs Go, Java 11 or 17, Maven, Python 3.9 or later with venv, and 3 GB of memory. Flink
# comes from PyPI, Beam's job server from Maven, 400 MB together. Works in
# build/flink; ports 8081, 8098, 8099 and 6123 of this machine, and others that are free.
set -euo pipefail
source "$(dirname "$0")/../venv.sh"

requests=${1:-600}
venv python3
flink=$("$python" -c 'import importlib.util as u; print(u.find_spec("pyflink").submodule_search_locations[0])')
cmp -s "$here/pom.xml" "$work/installed.xml" || {
	rm -rf "$work/jobserver"
	mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/jobserver"
	cp "$here/pom.xml" "$work/installed.xml" # says that all is here
}

# Workers run this very program, and Beam's boot program, which fetches it. Neither
# needs a C library.
export CGO_ENABLED=0
(cd "$root" && go build -tags noort -o "$work/" ./cmd/ossify ./cmd/ossify-beam &&
	go build -o "$work/boot" github.com/apache/beam/sdks/v2/go/container)
[ -e "$work/tiny/config.json" ] || "$work/ossify" synth --preset tiny --vocab 201088 "$work/tiny"
"$python" "$here/check.py" make "$requests" "$work/in.jsonl"

run=$work/run
rm -rf "$run" "$work/out" "$work/alone"
mkdir -p "$run/conf" "$run/log" "$run/tmp" "$run/artifacts"

# Boot programs of one machine would write into the same folders.
cat >"$run/boot" <<EOF
#!/bin/sh
folder=\$(mktemp -d "$run/tmp/worker-XXXXXX")
cd "\$folder"
echo \$\$ >pid
exec "$work/boot" "\$@" --semi_persist_dir="\$folder"
EOF
chmod +x "$run/boot"

# The cluster: two task managers of two slots, both used by a job of parallelism 2,
# and each enough for it.
cat >"$run/conf/config.yaml" <<EOF
jobmanager.rpc.address: localhost
jobmanager.rpc.port: 6123
jobmanager.bind-host: localhost
jobmanager.memory.process.size: 1g
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.numberOfTaskSlots: 2
taskmanager.load-balance.mode: SLOTS
taskmanager.cpu.cores: 1
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 256m
taskmanager.memory.task.off-heap.size: 0
taskmanager.memory.network.min: 32m
taskmanager.memory.network.max: 32m
taskmanager.memory.managed.size: 64m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 64m
taskmanager.memory.jvm-overhead.max: 64m
rest.address: localhost
rest.bind-address: localhost
rest.port: 8081
io.tmp.dirs: $run/tmp
heartbeat.interval: 2000
heartbeat.timeout: 60000
pekko.startup-timeout: 60 s
pekko.ask.timeout: 60 s
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 20
restart-strategy.fixed-delay.delay: 2 s
EOF
cat >"$run/conf/log4j.properties" <<'EOF'
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
EOF

opens=()
for package in lang lang.reflect net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks; do
	opens+=("--add-opens=java.base/java.$package=ALL-UNNAMED")
done
opens+=(--add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-exports=java.base/sun.net.util=ALL-UNNAMED)

# started NAME CLASSPATH CLASS ARG...: starts a Java program, whose process is then in pids[NAME].
declare -A pids
started() {
	java -Xmx400m -XX:MaxMetaspaceSize=256m -XX:MaxDirectMemorySize=256m -XX:+UseSerialGC "${opens[@]}" \
		-Djava.io.tmpdir="$run/tmp" -Dlog4j.configurationFile="$run/conf/log4j.properties" \
		-cp "$2" "${@:3}" >"$run/log/$1.log" 2>&1 &
	pids[$1]=$!
}
end() {
	kill "${pids[@]}" 2>/dev/null || true
	wait "${pids[@]}" 2>/dev/null || true
	# Boot hangs when it can no longer log, once its worker has ended, and leaves a copy of the program in /tmp each time that it starts.
	for pid in "$run"/tmp/worker-*/pid; do
		if [ -e "$pid" ]; then kill "$(cat "$pid")" 2>/dev/null || true; fi
	done
	for program in /tmp/bin*/worker; do
		if cmp -s "$program" "$work/ossify-beam"; then rm -r "$(dirname "$program")"; fi
	done
	rm -rf "$run/tmp" "$run/artifacts"
}
trap end EXIT
trap 'exit 1' HUP INT TERM # through EXIT

started jobmanager "$flink/lib/*" org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint --configDir "$run/conf"
for n in 1 2; do
	started "taskmanager$n" "$flink/lib/*" org.apache.flink.runtime.taskexecutor.TaskManagerRunner \
		--configDir "$run/conf" -Dtaskmanager.resource-id="taskmanager$n"
done
started jobserver "$work/jobserver/*" org.apache.beam.runners.flink.FlinkJobServerDriver --flink-master localhost:8081 \
	--job-host localhost --job-port 8099 --artifact-port 8098 --expansion-port -1 --artifacts-dir "$run/artifacts"

until [ "$("$python" "$here/check.py" slots)" = 4 ] && (exec 3<>/dev/tcp/localhost/8099) 2>/dev/null; do
	for name in "${!pids[@]}"; do
		kill -0 "${pids[$name]}" || {
			echo "$name has ended; see $run/log" >&2
			exit 1
		}
	done
	sleep 1
done

"$work/ossify" batch "$work/tiny" --in "$work/in.jsonl" --out "$work/out" --name m --shard 20 --threads 1 \
	--runner flink --endpoint localhost:8099 --beam-option parallelism=2 --beam-option job_name=ossify \
	--beam-option environment_type=PROCESS --beam-option "environment_config={\"command\":\"$run/boot\"}" 2>"$run/log/batch.log" &
batch=$!
answered() { find "$work/out" -name '*-*.jsonl' -exec cat {} + | wc -l; }
if [ "${KILL:-1}" = 1 ]; then
	until [ -d "$work/out" ] && [ "$(answered)" -ge $((requests / 3)) ]; do
		kill -0 "$batch"
		sleep 0.2
	done
	{
		kill -9 "${pids[taskmanager1]}"
		wait "${pids[taskmanager1]}" || true
	} 2>/dev/null
	unset 'pids[taskmanager1]'
	echo "killed a task manager with $(answered) of $requests lines in whole shards"
fi
wait "$batch"
"$python" "$here/check.py" job "${KILL:-1}"

# No worker outlives the task manager that wanted it.
for _ in $(seq 100); do
	pgrep -f "worker=true.*$run/tmp/worker-" >/dev/null || break
	sleep 0.1
done
if pgrep -af "worker=true.*$run/tmp/worker-"; then
	echo 'workers are left' >&2
	exit 1
fi

"$work/ossify" batch "$work/tiny" --in "$work/in.jsonl" --out "$work/alone" --name m --shard 20 --runner local
"$python" "$here/check.py" same "$work/in.jsonl" "$work/alone" "$work/out"
