#!/usr/bin/env bash
#
# The fault campaign: workers and producers are killed, stopped and cut off, Redis
# is killed, frozen, failed over and resharded, and ledgers on disk say whether a
# job was lost or ran beside itself. docs/chaos.md explains the table.
#
# Usage: scripts/chaos.sh            all scenarios, about 75 minutes
#        scripts/chaos.sh --gate     the short selection, at most 3 minutes
#        scripts/chaos.sh --list     their names and what they inject
#        scripts/chaos.sh NAME…      those whose name begins so
#
# The last line is `chaos: P of T passed`; the exit status is 0 when all passed.
# CHAOS_KEEP=1 leaves the ledgers and logs of failed scenarios behind.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

build() {
  cargo test --no-run --locked --all-features --test chaos
}

if ! build; then
  echo "chaos: 0 of 1 passed"
  exit 1
fi
# The test program itself, so that nothing of cargo's follows its last line.
program=$(build 2>&1 | sed -n 's/.*Executable .* (\(.*\))$/\1/p')

case ${1:---all} in
  --all | --gate | --list) exec "$program" "${1:---all}" ;;
  *) exec "$program" --only "$@" ;;
esac
