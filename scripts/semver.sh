#!/usr/bin/env bash
#
# Compares the public API with the newest tag, or another version, by cargo-semver-checks: what a
# user's code may rely on must not change without a new release.
#
# Usage: scripts/semver.sh [COMMIT]
#        scripts/semver.sh --program    only builds cargo-semver-checks, below target/semver/
#
# Without a tag nothing has been released, and there is nothing to compare with.
#
# The program compares two descriptions that rustdoc writes. They are written here, below target/,
# where the dependencies have been checked already: the program itself would check them twice more,
# in folders of its own. It is built once, unoptimised and without link-time optimisation, which
# takes less time than a fast program would save.

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
VERSION=0.51.0
ROOT=$PWD
FOLDER=$PWD/target/semver

only_program=
if [ "${1:-}" = --program ]; then
  only_program=1
  shift
fi
base=${1:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$base" ]; then
  echo "There is no tag: nothing was released yet that a change could break."
  exit 0
fi
commit=$(git rev-parse --verify "$base^{commit}")
mkdir -p "$FOLDER"

program=$FOLDER/$VERSION/bin/cargo-semver-checks
if [ ! -x "$program" ]; then
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --root "$FOLDER/$VERSION" "cargo-semver-checks@$VERSION"
fi
[ -z "$only_program" ] || exit 0

# The JSON format is for nightly compilers. The variable that permits it is set for rustdoc alone:
# build scripts read it too, and dependencies would be built again.
cat >"$FOLDER/rustdoc" <<'END'
#!/bin/sh
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
END
chmod +x "$FOLDER/rustdoc"

# Describes the crate in this folder, in that file. Cargo does not see that the file of the last time
# was moved away: other arguments make it write another one.
describe() {
  (cd "$1" && RUSTDOC=$FOLDER/rustdoc CARGO_TARGET_DIR=$ROOT/target \
    cargo rustdoc --quiet --lib --all-features --locked -- -Zunstable-options \
    --output-format json --document-private-items --document-hidden-items --cap-lints allow \
    --cfg "described_$(date +%s%N)")
  mv "$ROOT/target/doc/rocket_jobqueue.json" "$2"
}

if [ ! -e "$FOLDER/$commit.json" ]; then
  rm -rf "$FOLDER/source"
  mkdir "$FOLDER/source"
  git archive "$commit" | tar -x -C "$FOLDER/source"
  describe "$FOLDER/source" "$FOLDER/$commit.json"
  rm -rf "$FOLDER/source"
fi
describe . "$FOLDER/current.json"

echo "Comparing with $base."
"$program" semver-checks --baseline-rustdoc "$FOLDER/$commit.json" \
  --current-rustdoc "$FOLDER/current.json"
