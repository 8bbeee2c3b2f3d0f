#!/usr/bin/env bash
#
# Measures this crate and its peers alternately, on one Redis of the script's own, and
# prints medians and ratios as a Markdown table.
#
# Usage: scripts/bench-peers.sh [--rounds N] [--jobs N] [--only LINE,…] [--list]
#
# Needs cargo, Go 1.25, Node.js 20 with npm, and redis-server. Each run is kept as a
# line of JSON in target/bench-peers/.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

LINES=(enqueue-one enqueue-64 enqueue-256 enqueue-bulk drain-10 drain-100 drain-100-aof
  drain-100-rtt http latency delay sleep-10ms-at-10 sleep-10ms-at-100 sleep-10ms-at-1000
  sleep-100ms-at-100 sleep-100ms-at-1000 sleep-1ms-at-10)
ROUNDS=5 JOBS=50000 ONLY=

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
    --only) ONLY=${2:-}; [ -n "$ONLY" ] || usage; shift 2 ;;
    --list) printf '%s\n' "${LINES[@]}"; exit 0 ;;
    *) echo "unknown argument: $1" >&2; usage ;;
  esac
done
if [ -n "$ONLY" ]; then
  IFS=, read -ra wanted <<<"$ONLY"
  for line in "${wanted[@]}"; do
    printf '%s\n' "${LINES[@]}" | grep -qx -- "$line" || { echo "--only: unknown line \"$line\"" >&2; usage; }
  done
  LINES=("${wanted[@]}")
fi

for tool in cargo go node npm redis-server redis-cli; do
  command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }
done

OUT=target/bench-peers
mkdir -p "$OUT"
LOAD=target/release/examples/load
ASYNQ=$OUT/asynq
RUST=$OUT/rust/release/peer
echo "Building …" >&2
cargo build --release --locked --example load >&2 || exit 1
(cd benches/peers/go && go build -o "../../../$ASYNQ" .) || exit 1
(cd benches/peers/rust && CARGO_TARGET_DIR="../../../$OUT/rust" cargo build --release --locked --quiet) || exit 1
(cd benches/peers/bullmq && npm ci --no-audit --no-fund --silent >/dev/null) || exit 1

DIR=$(mktemp -d) || exit 1
PORT=0
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
  redis-server --port "$PORT" --bind 127.0.0.1 --save '' --dir "$DIR" --appendonly "$1" \
    --appendfsync everysec >/dev/null 2>&1 &
  REDIS=$!
  for _ in $(seq 100); do
    redis-cli -p "$PORT" ping >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "redis-server did not start" >&2
  exit 1
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
  local line=$1 url=redis://127.0.0.1:$PORT peers=$2
  shift 2
  run "$line" ours "$url" "$LOAD" "$@" --json
  [[ $peers != *asynq* ]] || run "$line" asynq "$url" "$ASYNQ" "$@"
  [[ $peers != *bullmq* ]] || run "$line" bullmq "$url" node benches/peers/bullmq/peer.js "$@"
  [[ $peers != *bare* ]] || run "$line" bare-lua "$url" "$RUST" bare "$@"
  # It drains no more than 7,000: see benches/peers/README.md.
  [[ $peers != *apalis* ]] || run "$line" apalis "$url" "$RUST" apalis "$@" --jobs "$((JOBS < 7000 ? JOBS : 7000))"
}

measure() {
  local line=$1 ms at
  case $line in
    enqueue-one) compare "$line" "asynq bullmq bare apalis" enqueue-one --jobs $((JOBS * 2 / 5)) --concurrency 1 ;;
    enqueue-64) compare "$line" "asynq bullmq bare" enqueue-concurrent --jobs "$JOBS" --concurrency 64 ;;
    enqueue-256) compare "$line" "asynq bullmq bare" enqueue-concurrent --jobs "$JOBS" --concurrency 256 ;;
    enqueue-bulk) compare "$line" "asynq bullmq bare apalis" enqueue-bulk --jobs $((JOBS * 2)) --concurrency 2 --batch 1000 ;;
    drain-10) compare "$line" "asynq bullmq bare apalis" drain --jobs "$JOBS" --concurrency 10 ;;
    drain-100) compare "$line" "asynq bullmq bare apalis" drain --jobs "$JOBS" --concurrency 100 ;;
    drain-100-aof) compare "$line" "asynq bullmq" drain --jobs "$JOBS" --concurrency 100 ;;
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
    latency) compare "$line" "asynq bullmq" latency --jobs 200 --concurrency 10 ;;
    delay) compare "$line" "asynq bullmq" delay --jobs 200 --concurrency 50 ;;
    sleep-*)
      ms=${line#sleep-} ms=${ms%%ms*} at=${line##*-}
      # Two seconds of work.
      compare "$line" "asynq bullmq" drain --sleep-ms "$ms" --jobs $((2000 * at / ms)) --concurrency "$at"
      ;;
  esac
}

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
