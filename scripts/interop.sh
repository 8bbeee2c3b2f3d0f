#!/usr/bin/env bash
#
# Proves with real Go Asynq that both sides of a queue may be either language:
# builds Asynq's library, command line and monitor from tests/interop/, and runs
# the cases that docs/interop.md lists.
#
# Usage: scripts/interop.sh [WORD…]    only cases whose name holds one of the words
#        scripts/interop.sh --table    the table for docs/interop.md
#        scripts/interop.sh --go       whether there is a Go that will do
#
# The last line is `interop: P of T passed, S skipped`; the exit status is 0 when
# all passed and none was skipped.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# What tests/interop/go.mod asks for.
NEEDED=1.24
PROGRAMS=$PWD/target/interop

# rustup puts cargo where a shell without a login does not look, and so do Go's
# own archives.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/go/bin

# Asked in the module's folder, where a Go since 1.21 that is too old fetches the
# one that is needed by itself, unless it is told not to.
go_is_there() {
  local version
  version=$(go env -C tests/interop GOVERSION 2>/dev/null) || return 1
  version=${version#go}
  [ "$(printf '%s\n' "$NEEDED" "$version" | sort -V | head -n 1)" = "$NEEDED" ]
}

build() {
  local folder=$1 program=$2 package=$3
  go build -C "tests/interop/$folder" -mod=readonly -o "$PROGRAMS/$program" "$package"
}

if [ "${1:-}" = --table ]; then
  exec cargo test --quiet --locked --all-features --test interop -- --table
fi

if [ "${1:-}" = --go ]; then
  go_is_there
  exit
fi

if ! go_is_there; then
  echo "Go $NEEDED or newer is needed, found: $(go version 2>/dev/null || echo none)." >&2
  echo "Take it from https://go.dev/dl, or on Debian 12 from bookworm-backports, whose Go" >&2
  echo "fetches a newer one where the variable GOTOOLCHAIN does not forbid it. With" >&2
  echo "bookworm-backports among apt's sources:" >&2
  echo "  sudo apt-get install -y -t bookworm-backports golang-go" >&2
  echo "interop: 0 of 0 passed, 0 skipped"
  exit 1
fi

mkdir -p "$PROGRAMS"
# The test program itself, so that nothing of cargo's follows its last line.
program() {
  cargo test --no-run --locked --all-features --test interop 2>&1 |
    sed -n 's/.*Executable .* (\(.*\))$/\1/p'
}

if ! { build . peer . &&
  build cli asynq github.com/hibiken/asynq/tools/asynq &&
  build asynqmon asynqmon . &&
  cargo test --no-run --locked --all-features --test interop; }; then
  echo "interop: 0 of 0 passed, 0 skipped"
  exit 1
fi

export INTEROP_PROGRAMS=$PROGRAMS
exec "$(program)" "$@"
