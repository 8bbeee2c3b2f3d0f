#!/usr/bin/env bash
#
# Starts or stops the Redis of docker-compose.redis.yml. Development only.
#
# Usage: scripts/start-redis.sh {start|stop}
#
# `start` returns once Redis answers, after at most REDIS_WAIT_SECONDS (30).
# The exit status is that of compose where compose fails.

set -u

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
COMPOSE_FILE=$ROOT/docker-compose.redis.yml
# A project name of its own: with a shared one, each file's containers would be
# "orphans" of the other.
PROJECT=jobqueue-redis
NETWORK=redis-network

fail() {
  printf '%s\n' "$1" >&2
  exit "${2:-1}"
}

compose() {
  "${COMPOSE[@]}" -p "$PROJECT" -f "$COMPOSE_FILE" "$@"
}

find_compose() {
  if docker compose version >/dev/null 2>&1; then
    COMPOSE=(docker compose)
  elif command -v docker-compose >/dev/null 2>&1; then
    COMPOSE=(docker-compose)
  else
    fail "Neither 'docker compose' nor 'docker-compose' is installed. See https://docs.docker.com/compose/install/"
  fi
}

# PONG and nothing else: while Redis reads its log it answers LOADING.
redis_answers() {
  [ "$(compose exec -T redis redis-cli ping 2>/dev/null </dev/null | tr -d '\r')" = PONG ]
}

# Names of containers on our network other than Redis itself.
others_on_network() {
  docker network inspect "$NETWORK" \
    --format '{{range .Containers}}{{println .Name}}{{end}}' 2>/dev/null |
    grep -vx -e redis -e ''
}

start() {
  local wait_seconds=${REDIS_WAIT_SECONDS:-30} deadline status
  echo "Starting Redis..."
  compose up -d
  status=$?
  [ "$status" -eq 0 ] || fail "Redis was not started: compose ended with status $status." "$status"

  deadline=$((SECONDS + wait_seconds))
  until redis_answers; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      fail "Redis was started, but does not answer after $wait_seconds s. Its log: ${COMPOSE[*]} -p $PROJECT -f $COMPOSE_FILE logs"
    fi
    sleep 0.2
  done
  echo "Redis started. Port: 6379"
}

stop() {
  local status output others
  echo "Stopping Redis..."
  others=$(others_on_network | tr '\n' ' ')
  if [ -n "$others" ]; then
    # `down` would end with an error over the network in use.
    compose rm --stop --force
    status=$?
  else
    # Kept to be read below, where `docker` could not be asked.
    output=$(compose down 2>&1)
    status=$?
    [ -z "$output" ] || printf '%s\n' "$output"
    case $status:$output in
      0:*) ;;
      *"active endpoints"* | *"in use"*)
        others="another container "
        # Succeeds only where Redis is really gone.
        compose rm --stop --force
        status=$?
        ;;
    esac
  fi
  [ "$status" -eq 0 ] || fail "Redis was not stopped: compose ended with status $status." "$status"
  [ -z "$others" ] || echo "The network $NETWORK stays: it is in use by ${others% }."
  echo "Redis stopped."
}

case ${1:-} in
  start | stop)
    find_compose
    "$1"
    ;;
  *)
    echo "Usage: $0 {start|stop}"
    exit 1
    ;;
esac
