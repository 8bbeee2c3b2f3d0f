#!/usr/bin/env bash
#
# Compares the public API with the newest tag, or another version, by cargo-semver-checks: what a
# user's code may rely on must not change without a new release.
#
# Usage: scripts/semver.sh [COMMIT]
#
# Without a tag nothing has been released, and there is nothing to compare with. The program is
# built once, below target/, without optimisation: that takes less time than it saves.

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
VERSION=0.51.0
ROOT=$PWD/target/semver-checks-$VERSION

base=${1:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$base" ]; then
  echo "There is no tag: nothing was released yet that a change could break."
  exit 0
fi
if [ ! -x "$ROOT/bin/cargo-semver-checks" ]; then
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 cargo install --quiet --locked --root "$ROOT" \
    "cargo-semver-checks@$VERSION"
fi
PATH=$ROOT/bin:$PATH cargo semver-checks --baseline-rev "$base" --all-features
