#!/usr/bin/env bash
#
# Measures this crate and its peers alternately, on one Redis of the script's own, and
# prints where that was and medians and ratios as a Markdown table.
#
# Usage: scripts/bench-peers.sh [--rounds N] [--jobs N] [--only LINE,…] [--servers] [--chart FILE] [--list]
#
# --servers   this crate alone on each server of scripts/servers.sh and on redis-server
# --chart     draws the table's rates as this SVG file too
#
# Needs cargo, Go 1.25, Node.js 20 with npm, and redis-server; --servers only cargo, Node.js and
# what scripts/servers.sh needs. Each run is kept as a line of JSON in target/bench-peers/.
# `node benches/peers/table.mjs FILE` prints the table of such a file again, and
# `node benches/peers/chart.mjs FILE` its chart.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

LINES=(enqueue-one enqueue-64 enqueue-256 enqueue-bulk drain-10 drain-100 drain-100-aof
  drain-100-rtt http latency delay sleep-10ms-at-10 sleep-10ms-at-100 sleep-10ms-at-1000
  sleep-100ms-at-100 sleep-100ms-at-1000 sleep-1ms-at-10 embedded)
# Those of --servers.
ON_SERVERS=(drain-10 drain-100 enqueue-64)
ROUNDS=5 JOBS=50000 ONLY='' SERVERS='' CHART=''

usage() {
  sed -n 's/^# \(Usage: .*\)/\1/p' "${BASH_SOURCE[0]}" >&2
  exit 1
}

number() {
  [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || { echo "$2: expected a number from 1, found \"${1:-}\"" >&2; usage; }
}

while [ $# -gt 0 ]; do
  case $1 in
    --rounds) number "${2:-}" "$1"; ROUNDS=$2; shift 2 ;;
    --jobs) number "${2:-}" "$1"; JOBS=$2; shift 2 ;;
    --servers) SERVERS=yes; shift ;;
    --chart) CHART=${2:-}; [ -n "$CHART" ] || usage; shift 2 ;;
    --only) ONLY=${2:-}; [ -n "$ONLY" ] || usage; shift 2 ;;
    --list) printf '%s\n' "${LINES[@]}"; exit 0 ;;
    *) echo "unknown argument: $1" >&2; usage ;;
  esac
done
[ -z "$SERVERS" ] || LINES=("${ON_SERVERS[@]}")
if [ -n "$ONLY" ]; then
  IFS=, read -ra wanted <<<"$ONLY"
  for line in "${wanted[@]}"; do
    printf '%s\n' "${LINES[@]}" | grep -qx -- "$line" || { echo "--only: unknown line \"$line\"" >&2; usage; }
  done
  LINES=("${wanted[@]}")
fi

TOOLS=(cargo node redis-server redis-cli)
[ -n "$SERVERS" ] || TOOLS+=(go npm)
for tool in "${TOOLS[@]}"; do
  command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }
done

OUT=target/bench-peers
mkdir -p "$OUT"
LOAD=target/release/examples/load
ASYNQ=$OUT/asynq
RUST=$OUT/rust/release/peer
AZUMS=$OUT/rust/release/peer-azums
STORES=target/release/examples/stores
echo "Building …" >&2
cargo build --release --locked --example load >&2 || exit 1

# Two crates: azums brings SQLite.
build_peers() {
  cargo build --release --locked --example stores >&2 &&
    (cd benches/peers/go && go build -o "../../../$ASYNQ" .) &&
    for crate in rust azums; do
      (cd "benches/peers/$crate" && CARGO_TARGET_DIR="../../../$OUT/rust" cargo build --release --locked --quiet) ||
        return 1
    done &&
    (cd benches/peers/bullmq && npm ci --no-audit --no-fund --silent >/dev/null)
}
[ -n "$SERVERS" ] || build_peers || exit 1

DIR=$(mktemp -d) || exit 1
PORT=0
# The server under load: the machine's own, or one of scripts/servers.sh.
SERVER=redis-server
REDIS=
PROXY=
KEPT=$OUT/$(date -u +%Y-%m-%dT%H%M%S).jsonl

stop() {
  [ -z "$PROXY" ] || kill "$PROXY" 2>/dev/null
  [ -z "$REDIS" ] || kill "$REDIS" 2>/dev/null
  wait 2>/dev/null
  PROXY='' REDIS=''
}
trap 'stop; rm -rf "$DIR"' EXIT

# Starts Redis on a free port, with or without an append-only file.
start_redis() {
  stop
  while :; do
    PORT=$((11000 + RANDOM % 20000))
    redis-cli -p "$PORT" ping >/dev/null 2>&1 || break
  done
  rm -rf "$DIR/appendonlydir"
  "$SERVER" --port "$PORT" --bind 127.0.0.1 --save '' --dir "$DIR" --appendonly "$1" \
    --appendfsync everysec >/dev/null 2>&1 &
  REDIS=$!
  for _ in $(seq 100); do
    redis-cli -p "$PORT" ping >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "$SERVER did not start" >&2
  exit 1
}

# What the version of a dependency is: the file, and what stands before it there.
version() {
  sed -n "s/.*$2[^0-9]*\([0-9][0-9.]*\).*/\1/p" "$1" | head -n 1
}

# Where and of what all this is, as the first line that is kept.
about() {
  local peers=benches/peers commit
  commit=$(git rev-parse --short HEAD)
  [ -z "$(git status --porcelain --untracked-files=no)" ] || commit="$commit with changes"
  CPU=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1) CORES=$(nproc) KERNEL=$(uname -sr) \
    COMMIT=$commit REDIS=$(redis-server --version | sed -n 's/.* v=\([0-9.]*\) .*/\1/p') \
    RUSTC=$(rustc --version | cut -d' ' -f2) \
    GO=$(go version 2>/dev/null | sed -n 's/.*go\([0-9][0-9.]*\) .*/\1/p') NODE=$(node --version) \
    ROUNDS=$ROUNDS JOBS=$JOBS \
    ASYNQ=$(version $peers/go/go.mod 'hibiken\/asynq v') \
    BULLMQ=$(version $peers/bullmq/package.json '"bullmq"') \
    APALIS=$(version $peers/rust/Cargo.toml 'apalis-redis = ') \
    SIDEKIQ=$(version $peers/rust/Cargo.toml 'rusty-sidekiq = ') \
    AZUMS=$(version $peers/azums/Cargo.toml 'azums = ') \
    node -e '
      const { CPU: cpu, CORES: cores, KERNEL: kernel, COMMIT: commit, REDIS: redis, RUSTC: rustc, GO: go, NODE: node,
        ROUNDS: rounds, JOBS: jobs, ASYNQ: asynq, BULLMQ: bullmq, APALIS: apalis, SIDEKIQ: sidekiq, AZUMS: azums } = process.env;
      const date = new Date().toISOString().slice(0, 10);
      console.log(JSON.stringify({ about: { date, commit, cpu, cores, kernel, redis, rustc, go, node: node.slice(1),
        rounds, jobs, peers: { asynq, bullmq, apalis, sidekiq, azums } } }));
    ' >"$KEPT"
}

# One run of one program; its line is kept.
run() {
  local line=$1 peer=$2 url=$3 answer
  shift 3
  redis-cli -p "$PORT" flushall >/dev/null
  if ! answer=$("$@" --redis "$url" 2>"$DIR/error"); then
    printf '%s %s failed: %s\n' "$line" "$peer" "$(cat "$DIR/error")" >&2
    return
  fi
  LINE=$line PEER=$peer node -e '
    const run = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
    console.log(JSON.stringify({ ...run, line: process.env.LINE, peer: process.env.PEER }));
  ' <<<"$answer" | tee -a "$KEPT" >"$DIR/last"
  printf '  %-10s %s\n' "$peer" "$(cut -c1-150 "$DIR/last")" >&2
}

# Ours, then the peers, with the same arguments.
compare() {
  local line=$1 url=redis://127.0.0.1:$PORT peers=$2 fewer=()
  shift 2
  # Two peers need several round trips for each job.
  [[ ! $line =~ ^(enqueue|drain) ]] || fewer=(--jobs $((JOBS * 2 / 5)))
  run "$line" ours "$url" "$LOAD" "$@" --json
  [[ $peers != *asynq* ]] || run "$line" asynq "$url" "$ASYNQ" "$@"
  [[ $peers != *bullmq* ]] || run "$line" bullmq "$url" node benches/peers/bullmq/peer.js "$@"
  [[ $peers != *bare* ]] || run "$line" bare-lua "$url" "$RUST" bare "$@"
  [[ $peers != *sidekiq* ]] || run "$line" sidekiq "$url" "$RUST" sidekiq "$@" "${fewer[@]}"
  [[ $peers != *azums* ]] || run "$line" azums "$url" "$AZUMS" "$@" "${fewer[@]}"
  # It drains no more than 7,000: see benches/peers/README.md.
  [[ $peers != *apalis* ]] || run "$line" apalis "$url" "$RUST" apalis "$@" --jobs "$((JOBS < 7000 ? JOBS : 7000))"
}

# What stores without a server do, ours and those of azums, in a folder of this script's.
embedded() {
  local name scenario callers store
  # Ours are one program, which prints a line for each store and line.
  "$STORES" --json --only memory,everysec,always "$DIR/stores" 2>"$DIR/error" | tee -a "$KEPT" >"$DIR/last" ||
    printf 'embedded ours failed: %s\n' "$(cat "$DIR/error")" >&2
  cut -c1-150 "$DIR/last" >&2
  for name in one 64 bulk drain-10 drain-100; do
    case $name in
      one) scenario=enqueue-one callers=1 ;;
      64) scenario=enqueue-concurrent callers=64 ;;
      bulk) scenario=enqueue-bulk callers=4 ;;
      drain-*) scenario=drain callers=${name#drain-} ;;
    esac
    for store in memory sqlite; do
      rm -f "$DIR"/azums.db*
      set -- memory "$JOBS"
      # It does a few hundred to a few thousand jobs a second.
      [ "$store" = memory ] || set -- "sqlite://$DIR/azums.db?mode=rwc" $((JOBS / 10))
      run "embedded-$name" "azums-$store" "redis://127.0.0.1:$PORT" "$AZUMS" "$scenario" \
        --jobs "$2" --concurrency "$callers" --store "$1"
    done
  done
}

measure() {
  local line=$1 ms at
  case $line in
    embedded) embedded ;;
    enqueue-one) compare "$line" "asynq bullmq bare apalis sidekiq azums" enqueue-one --jobs $((JOBS * 2 / 5)) --concurrency 1 ;;
    enqueue-64) compare "$line" "asynq bullmq bare sidekiq azums" enqueue-concurrent --jobs "$JOBS" --concurrency 64 ;;
    enqueue-256) compare "$line" "asynq bullmq bare sidekiq azums" enqueue-concurrent --jobs "$JOBS" --concurrency 256 ;;
    enqueue-bulk) compare "$line" "asynq bullmq bare apalis sidekiq azums" enqueue-bulk --jobs $((JOBS * 2)) --concurrency 2 --batch 1000 ;;
    drain-10) compare "$line" "asynq bullmq bare apalis sidekiq azums" drain --jobs "$JOBS" --concurrency 10 ;;
    drain-100) compare "$line" "asynq bullmq bare apalis sidekiq azums" drain --jobs "$JOBS" --concurrency 100 ;;
    drain-100-aof) compare "$line" "asynq bullmq sidekiq azums" drain --jobs "$JOBS" --concurrency 100 ;;
    drain-100-rtt)
      # All take the same longer way.
      local way
      coproc way_to_redis { "$LOAD" proxy --redis "redis://127.0.0.1:$PORT" --rtt-ms 1; }
      # shellcheck disable=SC2154 # coproc sets it
      PROXY=$way_to_redis_PID
      read -r way <&"${way_to_redis[0]}"
      run "$line" ours "redis://127.0.0.1:$way" "$LOAD" drain --jobs "$JOBS" --concurrency 100 --json
      run "$line" asynq "redis://127.0.0.1:$way" "$ASYNQ" drain --jobs $((JOBS / 5)) --concurrency 100
      kill "$PROXY" 2>/dev/null
      PROXY=
      ;;
    http)
      run "$line" ours "redis://127.0.0.1:$PORT" "$LOAD" http --jobs $((JOBS * 2 / 5)) --concurrency 32 --json
      run "$line" bare "redis://127.0.0.1:$PORT" "$LOAD" http --bare --jobs $((JOBS * 2 / 5)) --concurrency 32 --json
      ;;
    latency) compare "$line" "asynq bullmq sidekiq azums" latency --jobs 200 --concurrency 10 ;;
    delay) compare "$line" "asynq bullmq sidekiq azums" delay --jobs 200 --concurrency 50 ;;
    sleep-*)
      ms=${line#sleep-} ms=${ms%%ms*} at=${line##*-}
      # Two seconds of work.
      compare "$line" "asynq bullmq sidekiq azums" drain --sleep-ms "$ms" --jobs $((2000 * at / ms)) --concurrency "$at"
      ;;
  esac
}

# This crate alone, on every server, one after the other in each round.
on_servers() {
  local round line name at load names=()
  mapfile -t names < <(scripts/servers.sh fetch | sed -n 's/^\([a-z0-9.-]*\): .*server v=.*/\1/p')
  names=(redis-server "${names[@]}")
  for round in $(seq "$ROUNDS"); do
    for name in "${names[@]}"; do
      [ "$name" = redis-server ] && SERVER=$name || SERVER=target/servers/$name/server
      printf 'round %s of %s: %s\n' "$round" "$ROUNDS" "$name" >&2
      start_redis no
      at=$("$SERVER" --version | sed -n 's/\([A-Za-z]*\) server v=\([0-9.]*\) .*/\1 \2/p')
      for line in "${LINES[@]}"; do
        load="drain --concurrency ${line#*-}"
        [[ $line != enqueue-* ]] || load="enqueue-concurrent --concurrency ${line#*-}"
        # shellcheck disable=SC2086 # several words
        run "$line" "$at" "redis://127.0.0.1:$PORT" "$LOAD" $load --jobs "$JOBS" --json
      done
    done
  done
}

about
if [ -n "$SERVERS" ]; then
  on_servers
  echo "Kept in $KEPT" >&2
  node benches/peers/servers.mjs "$KEPT"
  exit
fi

for round in $(seq "$ROUNDS"); do
  start_redis no
  for line in "${LINES[@]}"; do
    printf 'round %s of %s: %s\n' "$round" "$ROUNDS" "$line" >&2
    if [[ $line == *-aof ]]; then
      start_redis yes
      measure "$line"
      start_redis no
    else
      measure "$line"
    fi
  done
done

echo "Kept in $KEPT" >&2
node benches/peers/table.mjs "$KEPT"
[ -z "$CHART" ] || node benches/peers/chart.mjs "$KEPT" >"$CHART"
