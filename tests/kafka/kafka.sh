#!/usr/bin/env bash
# Finds or starts the real Kafka of the tests and the benchmarks.
#
#   kafka.sh start            prints the bootstrap address of a running Kafka; starts one if there is none
#   kafka.sh address          prints the address of the running Kafka, or fails
#   kafka.sh stop             stops the Kafka that `start` started
#   kafka.sh kill [NODE]      kills broker NODE (default 1) with kill -9; its data and ports are kept
#   kafka.sh revive [NODE]    restarts a killed broker on the same data and ports, and waits until it listens
#   kafka.sh with CMD...      runs CMD with KAFKA_BOOTSTRAP set, then stops what it started; exits with CMD's exit code
#   kafka.sh TOOL ARGS...     runs one of Kafka's own tools, for example:
#                             kafka.sh console-consumer --bootstrap-server "$(kafka.sh address)" --topic flights.served
#
# It uses the first of: the cluster in KAFKA_BOOTSTRAP; a docker engine with docker-compose.yml; a JVM with Maven.
# stdout is data, stderr is progress. SERINUS_SKIP_KAFKA=1 makes `with` run CMD without Kafka.
#
# With KAFKA_RUN=NAME, start|stop|address|kill|revive manage a separate cluster of that name with its own ports and data,
# for a test that breaks its brokers. It always runs on a JVM; without one, start exits with code 77, which means: skip.
# KAFKA_NODES=3 sets its number of brokers; every partition has three replicas, of which two must have a record.
# `stop` without a name also stops the named clusters of this checkout.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
jars=$target/kafka/jars-$version
archive=$jars/broker.jsa
# One Kafka per checkout, even if several checkouts share a target folder.
shared=$target/kafka/run-$(printf '%s' "$root" | cksum | cut -d' ' -f1)
run=$shared${KAFKA_RUN:+-$KAFKA_RUN}
nodes=${KAFKA_NODES:-1}
# A named cluster is never an external one.
[[ -z ${KAFKA_RUN:-} ]] || unset KAFKA_BOOTSTRAP

say() { echo "kafka.sh: $*" >&2; }
die() { say "$*"; exit 1; }

has_docker() { command -v docker >/dev/null && docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }
has_java() { command -v java >/dev/null; }
has_maven() { command -v mvn >/dev/null; }
compose() { docker compose --project-name "serinus-tests-${shared##*-}" --file "$root/docker-compose.yml" "$@"; }

# True if something listens on this local port.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Outside the usual range of ephemeral ports, so that no client socket takes it before the broker does.
free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 10000))
    listens "$port" || { echo "$port"; return; }
  done
  die "no free port found between 20000 and 30000"
}

# True while a process runs; false for a zombie.
runs() { kill -0 "$1" 2>/dev/null && [[ $(ps -o stat= -p "$1" 2>/dev/null) != Z* ]]; }

any_runs() { local pid; for pid; do ! runs "$pid" || return 0; done; return 1; }

is_up() {
  [[ -f $run/address ]] || return 1
  case $(cat "$run/kind") in
    jvm) any_runs $(cat "$run"/*/pid) ;;
    compose) compose ps --status running --services 2>/dev/null | grep -qx kafka ;;
  esac
}

fetch_jars() {
  [[ -f $jars/.complete ]] && return
  has_maven || return 1
  say "fetching the jars of Kafka $version with Maven (once)"
  mkdir -p "$jars"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$jars" >&2 || return 1
  touch "$jars/.complete"
}

start_compose() {
  local port
  port=$(free_port)
  say "starting Kafka $version with docker compose"
  export SERINUS_KAFKA_PORT=$port
  compose up --detach --wait kafka >&2
  echo compose >"$run/kind"
  echo "localhost:$port" >"$run/address"
}

# A node is broker and controller; `peers` are the addresses of all controllers.
write_properties() { # node, broker port, controller port, peers
  cat >"$run/$1/server.properties" <<EOF
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$4
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$2
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$run/$1/data
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=$nodes
min.insync.replicas=$(((nodes + 1) / 2))
offsets.topic.replication.factor=$nodes
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$nodes
transaction.state.log.min.isr=$(((nodes + 1) / 2))
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=$nodes
share.coordinator.state.topic.min.isr=$(((nodes + 1) / 2))
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.max.timeout.ms=900000
log.retention.check.interval.ms=300000
EOF
  # In a cluster, another broker takes over soon after a kill. A single broker under load must not lose its partitions.
  # A killed broker recovers all segments that were open before it listens: small segments and many recovery threads make
  # this faster.
  ((nodes == 1)) || cat >>"$run/$1/server.properties" <<EOF
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.segment.bytes=2097152
log.flush.offset.checkpoint.interval.ms=5000
num.recovery.threads.per.data.dir=8
EOF
}

java_kafka() { java -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$jars/*" "$@"; }

# Writes a class data archive of the broker's startup, which halves the startup of later brokers. Optional.
learn() {
  [[ ! -f $archive ]] || return 0
  say "archiving the classes of a broker's startup (once)"
  (
    run=$run/learning nodes=1
    mkdir -p "$run/1"
    controller=$(free_port)
    write_properties 1 "$(free_port)" "$controller" "1@127.0.0.1:$controller"
    format 1 "$(cluster_id)"
    launch 1 "-XX:ArchiveClassesAtExit=$run/broker.jsa"
    await 1
    end_all "$(cat "$run/1/pid")"
    mv "$run/broker.jsa" "$archive"
  ) || say 'no class archive: brokers start more slowly'
  rm -rf "$run/learning"
}

cluster_id() { java_kafka kafka.tools.StorageTool random-uuid; }

format() { # node, id of the cluster
  java_kafka kafka.tools.StorageTool format --cluster-id "$2" --config "$run/$1/server.properties" >"$run/$1/format.log" 2>&1 ||
    die "formatting the storage failed, see $run/$1/format.log"
}

start_jvm() {
  local id node port peers='' bootstrap='' ports=()
  while ((${#ports[@]} < 2 * nodes)); do
    port=$(free_port)
    [[ " ${ports[*]-} " == *" $port "* ]] || ports+=("$port")
  done
  for ((node = 1; node <= nodes; node++)); do
    peers+=${peers:+,}$node@127.0.0.1:${ports[2 * node - 1]}
    bootstrap+=${bootstrap:+,}127.0.0.1:${ports[2 * node - 2]}
  done
  learn
  id=$(cluster_id)
  say "starting Kafka $version on a JVM, nodes: $nodes"
  for ((node = 1; node <= nodes; node++)); do
    mkdir -p "$run/$node"
    write_properties "$node" "${ports[2 * node - 2]}" "${ports[2 * node - 1]}" "$peers"
    format "$node" "$id"
  done
  echo jvm >"$run/kind"
  # All are launched first: none is up before a majority is.
  for ((node = 1; node <= nodes; node++)); do launch "$node"; done
  for ((node = 1; node <= nodes; node++)); do await "$node"; done
  echo "$bootstrap" >"$run/address"
}

# Starts the node with the properties and data in the run's folder.
launch() { # node, options of the JVM
  local first=() options=("${@:2}")
  [[ ! -f $archive ]] || options+=("-XX:SharedArchiveFile=$archive")
  if ((nodes > 1)); then
    # In production brokers have their own machines: here they get a higher CPU priority. Without the right to set it, nice logs an error.
    first=(nice -n -10)
    # Brokers are short-lived, so optimizing compilation does not pay.
    options+=(-XX:TieredStopAtLevel=1)
  fi
  # exec: the pid is the broker's own. setsid: Ctrl-C reaches the tests only, and the broker ends after them.
  setsid "${first[@]}" bash -c 'exec java "${@:3}" -Xms256m -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$1/*" kafka.Kafka "$2"' \
    kafka "$jars" "$run/$1/server.properties" "${options[@]}" </dev/null >>"$run/$1/server.log" 2>&1 &
  echo $! >"$run/$1/pid"
}

# Waits until a node listens.
await() { # node
  local pid deadline=$((SECONDS + 180))
  pid=$(cat "$run/$1/pid")
  while ((SECONDS < deadline)); do
    runs "$pid" || { tail -n 20 "$run/$1/server.log" >&2; die "the broker exited during startup, see $run/$1/server.log"; }
    ! listens "$(port "$1")" || return 0
    sleep 0.1
  done
  kill "$pid"
  die "the broker did not listen within 180 s, see $run/$1/server.log"
}

start() {
  if [[ -n ${KAFKA_BOOTSTRAP:-} ]]; then echo "$KAFKA_BOOTSTRAP"; return; fi
  if is_up; then cat "$run/address"; return; fi
  rm -rf "$run"
  mkdir -p "$run"
  if [[ -n ${KAFKA_RUN:-} ]]; then
    if ! has_java || ! fetch_jars; then
      say "a dedicated cluster needs a JVM (17 or newer) and Maven"
      exit 77
    fi
    start_jvm
  elif has_docker; then
    start_compose
  elif has_java && fetch_jars; then
    start_jvm
  else
    die "no Kafka found: set KAFKA_BOOTSTRAP, or start a docker engine, or install a JVM (17 or newer) and Maven; SERINUS_SKIP_KAFKA=1 skips the tests that need one"
  fi
  say "up at $(cat "$run/address") after ${SECONDS} s"
  cat "$run/address"
}

stop() {
  local named
  if [[ -z ${KAFKA_RUN:-} ]]; then
    for named in "$shared"-*/; do
      [[ ! -d $named ]] || KAFKA_RUN=$(basename "${named#"$shared-"}") "${BASH_SOURCE[0]}" stop
    done
  fi
  is_up || return 0
  case $(cat "$run/kind") in
    compose) compose down --volumes >&2 ;;
    jvm)
      local pids
      pids=$(cat "$run"/*/pid)
      end_all $pids
      ;;
  esac
  # The logs are kept for the analysis of failures.
  rm -rf "$run/address" "$run"/*/pid "$run"/*/data
}

end_all() { # pids
  local pid
  for pid; do kill "$pid" 2>/dev/null || true; done
  for _ in {1..150}; do any_runs "$@" || break; sleep 0.1; done
  # A broker still running after 15 s holds nothing that a test needs; the last one of a cluster waits for the others.
  for pid; do ! runs "$pid" || kill -9 "$pid"; done
}

kill_broker() { # node
  is_up || die "there is no broker to kill"
  [[ $(cat "$run/kind") == jvm ]] || die "only brokers on a JVM can be killed: KAFKA_RUN=NAME starts one"
  kill -9 "$(cat "$run/$1/pid")"
  for _ in {1..100}; do listens "$(port "$1")" || return 0; sleep 0.1; done
  die "something still listens on port $(port "$1")"
}

revive() { # node
  [[ -f $run/address && $(cat "$run/kind") == jvm ]] || die "there is no killed broker to revive"
  ! listens "$(port "$1")" || die "the broker is up"
  launch "$1"
  await "$1"
}

port() { sed -n 's/^listeners=PLAINTEXT:[^:]*:\([0-9]*\),.*/\1/p' "$run/$1/server.properties"; } # node

address() {
  if [[ -n ${KAFKA_BOOTSTRAP:-} ]]; then echo "$KAFKA_BOOTSTRAP"; return; fi
  is_up || die "no Kafka is up for this checkout: run tests/kafka/kafka.sh start"
  cat "$run/address"
}

with() {
  if [[ ${SERINUS_SKIP_KAFKA:-} == 1 ]]; then
    say "SERINUS_SKIP_KAFKA=1: the tests that need Kafka are skipped and report it"
    exec "$@"
  fi
  if [[ -z ${KAFKA_BOOTSTRAP:-} ]] && ! is_up; then trap stop EXIT; fi
  KAFKA_BOOTSTRAP=$(start)
  export KAFKA_BOOTSTRAP
  "$@"
}

tool() { # name, arguments
  local class
  case $1 in
    console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
    get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    *) die "unknown command or tool \`$1\`; see the head of this file" ;;
  esac
  if has_java && fetch_jars; then
    java_kafka "$class" "${@:2}"
  elif has_docker; then
    docker run --rm --interactive --network host "apache/kafka:$version" "/opt/kafka/bin/kafka-$1.sh" "${@:2}"
  else
    die "Kafka's tools need a JVM and Maven, or a docker engine"
  fi
}

case ${1:-} in
  start | stop | address) "$1" ;;
  kill) kill_broker "${2:-1}" ;;
  revive) revive "${2:-1}" ;;
  with) with "${@:2}" ;;
  '') sed -n '2,19p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  *) tool "$@" ;;
esac
