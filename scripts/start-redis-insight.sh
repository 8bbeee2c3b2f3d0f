#!/usr/bin/env bash
#
# Starts or stops Redis Insight, a viewer for what is in Redis. Development only.
#
# Usage: [APP_ENV=develop] [REDIS_HOSTS=label:host:port] scripts/start-redis-insight.sh {start|stop}
#
# Insight connects to the first of these that is given:
#   1. REDIS_HOSTS
#   2. redis.jobqueue.addr               of config/$APP_ENV/cacheserver.yaml
#   3. redis.default.cluster.addrs       its first address
#   4. redis.cluster.addrs, or addrs     the older form, its first address
#   5. redis:6379                        the Redis of docker-compose.redis.yml
# The keys may also stand under `cache_server:`. User and password come from
# beside the address, or from RI_REDIS_USERNAME and RI_REDIS_PASSWORD; they are
# handed to the container and never printed.
# The exit status is that of compose where compose fails.

set -u

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
COMPOSE_FILE=$ROOT/docker-compose.redis-insight.yml
# A project name of its own: with a shared one, each file's containers would be
# "orphans" of the other.
PROJECT=jobqueue-redis-insight
NETWORK=redis-network
APP_ENV=${APP_ENV:-develop}
CONFIG=$ROOT/config/$APP_ENV/cacheserver.yaml
START_REDIS_FIRST="start Redis first, with scripts/start-redis.sh start"

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

# Prints every scalar of a YAML file as `path.to.key=value`, one a line; the
# elements of lists as `path.0`, `path.1`. Knows what configuration files use:
# indentation, comments, both kinds of quotes, block lists, `[a, b]` and
# `{k: v}`, also over several lines, anchors, aliases and merge keys (`<<`). Text
# blocks (`|`, `>`) are passed over.
flatten_yaml() {
  LC_ALL=C awk '
    function trim(s) { gsub(/^[ \t]+|[ \t]+$/, "", s); return s }

    # Position of the first character of `set` outside quotes and brackets
    # (0: none). Also leaves the bracket depth at the end in `depth`.
    function find(s, set,   i, c, q) {
      q = ""; depth = 0
      for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (q != "") {
          if (c == "\\" && q == "\"") i++
          else if (c == q && q == "\047" && substr(s, i + 1, 1) == q) i++
          else if (c == q) q = ""
          continue
        }
        if ((c == "\"" || c == "\047") && (i == 1 || substr(s, i - 1, 1) ~ /[ \t:,[{]/)) { q = c; continue }
        if (depth == 0 && index(set, c)) {
          if (c == "#" && i > 1 && substr(s, i - 1, 1) !~ /[ \t]/) continue
          # A colon ends a key only before a space or the end: localhost:6379 is one word.
          if (c == ":" && i < length(s) && substr(s, i + 1, 1) !~ /[ \t]/) continue
          return i
        }
        if (c == "#" && (i == 1 || substr(s, i - 1, 1) ~ /[ \t]/)) return 0
        if (c == "[" || c == "{") depth++
        if (c == "]" || c == "}") depth--
      }
      return 0
    }

    # Cuts a comment off; inside brackets too.
    function uncomment(s,   i, c, q) {
      q = ""
      for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (q != "") {
          if (c == "\\" && q == "\"") i++
          else if (c == q && q == "\047" && substr(s, i + 1, 1) == q) i++
          else if (c == q) q = ""
        } else if ((c == "\"" || c == "\047") && (i == 1 || substr(s, i - 1, 1) ~ /[ \t:,[{]/)) q = c
        else if (c == "#" && (i == 1 || substr(s, i - 1, 1) ~ /[ \t]/)) return substr(s, 1, i - 1)
      }
      return s
    }

    function unquote(s,   q, out, i, c) {
      s = trim(s)
      q = substr(s, 1, 1)
      if (length(s) < 2 || (q != "\"" && q != "\047") || substr(s, length(s), 1) != q) return s
      s = substr(s, 2, length(s) - 2)
      out = ""
      for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (q == "\"" && c == "\\") c = substr(s, ++i, 1)
        else if (q == "\047" && c == q) i++
        out = out c
      }
      return out
    }

    function under(path, key) { return path == "" ? key : path "." key }

    function record(path, kind, value) {
      records++
      path_at[records] = path; kind_at[records] = kind; value_at[records] = value
    }

    function emit(path, s,   first, inner, at, part, n, key) {
      s = trim(s)
      while (s ~ /^[&!]/) {
        part = s
        sub(/[ \t].*$/, "", part)
        if (part ~ /^&/) anchor[substr(part, 2)] = path
        s = trim(substr(s, length(part) + 1))
      }
      if (s ~ /^\*[^ \t]+$/) {
        if (substr(s, 2) in anchor) record(path, "alias", anchor[substr(s, 2)])
        return
      }
      first = substr(s, 1, 1)
      if (first == "[" || first == "{") {
        inner = trim(substr(s, 2, length(s) - 2))
        n = 0
        while (inner != "") {
          at = find(inner, ",")
          part = trim(at ? substr(inner, 1, at - 1) : inner)
          inner = at ? trim(substr(inner, at + 1)) : ""
          if (part == "") continue
          if (first == "[") { emit(under(path, n++), part); continue }
          at = find(part, ":")
          if (!at) continue
          key = under(path, unquote(substr(part, 1, at - 1)))
          record(key, "key")
          emit(key, substr(part, at + 1))
        }
        return
      }
      if (s == "" || s == "~" || s == "null") return
      record(path, "value", unquote(s))
    }

    # Whether the key at the start of `rest` belongs to table `id` in `to`: explicit keys
    # come first, and a merged table adds only keys that nobody has given.
    function owns(id, to, rest,   parts, count, i) {
      count = split(rest, parts, ".")
      for (i = 1; i <= count; i++) {
        to = under(to, parts[i])
        if (!(to in owner)) owner[to] = id
        else if (i == 1 && owner[to] != id) return 0
      }
      return 1
    }

    # What lies below `from`, or "." where that is not so.
    function below(from, path) {
      if (from == "") return path
      if (path == from) return ""
      return index(path, from ".") == 1 ? substr(path, length(from) + 2) : "."
    }

    # Prints what lies below `from` as if it stood at `to`.
    function show(from, to, depth,   id, i, rest, at, after, merge) {
      if (depth > 20) return
      id = ++tables
      for (i = 1; i <= records; i++) {
        rest = below(from, path_at[i])
        if (rest == "." || index("." rest ".", ".<<.") || !owns(id, to, rest)) continue
        at = rest == "" ? to : under(to, rest)
        if (kind_at[i] == "value") print at "=" value_at[i]
        if (kind_at[i] == "alias") show(value_at[i], at, depth + 1)
      }
      for (i = 1; i <= records; i++) {
        rest = below(from, path_at[i])
        at = rest == "." ? 0 : index("." rest ".", ".<<.")
        if (!at) continue
        after = substr(rest, at + 3)
        rest = substr(rest, 1, at - 2)
        if (rest != "" && !owns(id, to, rest)) continue
        merge = under(rest == "" ? from : under(from, rest), "<<")
        if (match(after, /^[0-9]+/)) {
          merge = merge "." substr(after, 1, RLENGTH)
          after = substr(after, RLENGTH + 2)
        }
        if (rest != "") rest = under(to, rest); else rest = to
        if (after == "") {
          if (kind_at[i] == "alias") show(value_at[i], rest, depth + 1)
        } else if (!((id, merge) in merged)) {
          merged[id, merge] = 1
          show(merge, rest, depth + 1)
        }
      }
    }

    # Puts the text of a line, found `indent` deep, where it belongs.
    function place(indent, s,   at, key, value) {
      if (s ~ /^-([ \t]|$)/) {
        # A list may stand as deep as its key: only deeper keys and older lists end.
        while (top && (at_indent[top] > indent || (at_indent[top] == indent && is_item[top]))) top--
        key = path_of[top]
        if (!(top in count)) count[top] = 0
        value = count[top]++
        match(substr(s, 2), /^[ \t]*/)
        push(indent, under(key, value), 1)
        s = substr(s, 2 + RLENGTH)
        if (s != "") place(indent + 1 + RLENGTH, s)
        return
      }
      at = find(s, ":")
      if (!at) { emit(path_of[top], s); return }
      while (top && at_indent[top] >= indent) top--
      push(indent, under(path_of[top], unquote(substr(s, 1, at - 1))), 0)
      value = trim(substr(s, at + 1))
      record(path_of[top], "key")
      if (value ~ /^[|>][-+0-9]*$/) { block = indent; in_block = 1; return }
      emit(path_of[top], value)
    }

    function push(indent, path, item) {
      top++
      at_indent[top] = indent; path_of[top] = path; is_item[top] = item
      delete count[top]
    }

    BEGIN { top = 0; path_of[0] = ""; in_block = 0 }
    NR == 1 { sub(/^\357\273\277/, "") }
    { sub(/\r$/, "") }
    pending == "" {
      match($0, /^ */)
      indent = RLENGTH
      if (in_block) {
        if ($0 ~ /^[ \t]*$/ || indent > block) next
        in_block = 0
      }
    }
    {
      line = trim(uncomment($0))
      if (line == "" || (pending == "" && line ~ /^(---|\.\.\.|%)/)) next
      pending = pending == "" ? line : pending " " line
      find(pending, "")
      if (depth > 0) next
      line = pending; pending = ""
      place(indent, line)
    }
    END { show("", "", 0) }
  ' "$1"
}

# First value given for one of the keys, in their order; sets VALUE and FOUND.
look_up() {
  local key prefix
  for key in "$@"; do
    for prefix in "" cache_server.; do
      VALUE=$(awk -v key="$prefix$key=" 'index($0, key) == 1 { print substr($0, length(key) + 1); exit }' <<<"$SETTINGS")
      FOUND=$prefix$key
      [ -z "$VALUE" ] || return 0
    done
  done
  return 1
}

# Splits `host`, `host:port` or `[v6]:port`; sets HOST and PORT. The value itself
# is not repeated in the message: someone may have written a password into it.
split_address() {
  local address=$1 name=$2
  case $address in
    *[@/[:space:]]*) fail "$name: expected host:port" ;;
    \[*\]) HOST=${address:1:${#address}-2} PORT=6379 ;;
    *:*) HOST=${address%:*} PORT=${address##*:} ;;
    *) HOST=$address PORT=6379 ;;
  esac
  HOST=${HOST#[} HOST=${HOST%]}
  case $PORT in
    '' | *[!0-9]*) fail "$name: expected host:port, with a number as port" ;;
  esac
  [ -n "$HOST" ] || HOST=localhost
}

# Sets RI_REDIS_*, which compose hands to the container.
choose_address() {
  local label=local origin=default rest
  HOST=redis PORT=6379 SETTINGS='' VALUE='' FOUND=''
  if [ -n "${REDIS_HOSTS:-}" ]; then
    origin=REDIS_HOSTS
    # Insight connects to one Redis at its start: the first of a list.
    rest=${REDIS_HOSTS%%,*}
    case $rest in
      *:*:*) ;;
      *) fail "REDIS_HOSTS: expected label:host:port" ;;
    esac
    label=${rest%%:*}
    split_address "${rest#*:}" REDIS_HOSTS
  elif [ -f "$CONFIG" ]; then
    SETTINGS=$(flatten_yaml "$CONFIG") || fail "config/$APP_ENV/cacheserver.yaml cannot be read"
    if look_up redis.jobqueue.addr redis.default.cluster.addrs.0 redis.cluster.addrs.0 \
      redis.addrs.0 cluster.addrs.0 addrs.0; then
      origin="$FOUND in config/$APP_ENV/cacheserver.yaml"
      rest=${FOUND%.addr*}
      split_address "$VALUE" "$FOUND"
      # User and password belong to the address they stand beside.
      rest=${rest#cache_server.}
      if [ -z "${RI_REDIS_USERNAME+x}" ] && look_up "$rest.username"; then
        export RI_REDIS_USERNAME=$VALUE
      fi
      if [ -z "${RI_REDIS_PASSWORD+x}" ] && look_up "$rest.password"; then
        export RI_REDIS_PASSWORD=$VALUE
      fi
    fi
  else
    origin="default, as config/$APP_ENV/cacheserver.yaml does not exist"
  fi

  # This machine is another one inside a container.
  case $HOST:$PORT in
    localhost:6379 | 127.0.0.1:6379 | ::1:6379) HOST=redis ;;
    localhost:* | 127.0.0.1:* | ::1:*) HOST=host.docker.internal ;;
  esac
  export RI_REDIS_HOST=$HOST RI_REDIS_PORT=$PORT RI_REDIS_ALIAS=$label
  echo "Connecting to Redis at: $HOST:$PORT ($origin)"
}

# Docker answers, and knows no such network. Where Docker itself does not
# answer, compose says so better.
network_is_missing() {
  docker network ls >/dev/null 2>&1 && ! docker network inspect "$NETWORK" >/dev/null 2>&1
}

start() {
  local status
  echo "Starting Redis Insight..."
  choose_address
  if network_is_missing; then
    fail "The network $NETWORK does not exist: $START_REDIS_FIRST"
  fi
  compose up -d
  status=$?
  [ "$status" -eq 0 ] || fail "Redis Insight was not started: compose ended with status $status.
If it found no network $NETWORK: $START_REDIS_FIRST" "$status"
  echo "Redis Insight started. Web UI: http://localhost:8001"
}

stop() {
  local status
  echo "Stopping Redis Insight..."
  compose down
  status=$?
  [ "$status" -eq 0 ] || fail "Redis Insight was not stopped: compose ended with status $status." "$status"
  echo "Redis Insight stopped."
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
