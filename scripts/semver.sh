#!/usr/bin/env bash
#
# Compares the public API with the newest tag, or another version, by cargo-semver-checks.
# Not part of the gate: building that program takes longer than all other lints together.
#
# Usage: scripts/semver.sh [COMMIT]

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

base=${1:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$base" ]; then
  echo "There is no tag yet: name a commit, as in scripts/semver.sh main" >&2
  exit 1
fi
if ! cargo semver-checks --version >/dev/null 2>&1; then
  cargo install cargo-semver-checks --locked
fi
cargo semver-checks --baseline-rev "$base" --all-features
