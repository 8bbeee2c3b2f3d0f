#!/usr/bin/env bash
#
# Packs the crate as `cargo publish` does, checks which files are in it, and compiles
# what was packed, without tests and without the rest of the repository.
#
# Usage: scripts/package.sh

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

fail() {
  printf 'The package %s\n' "$1" >&2
  exit 1
}

files=$(cargo package --list --locked --allow-dirty)
for file in src/lib.rs README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE docs/guide/first-job.md \
  config/embedded/config.yaml; do
  grep -qx "$file" <<<"$files" || fail "lacks $file."
done
if extra=$(grep -Ev '^(src/|config/embedded/config\.yaml$|docs/[^/]*\.md$|docs/guide/|README|CHANGELOG|LICENSE-|Cargo\.|\.cargo_vcs_info)' <<<"$files"); then
  fail "has files that users do not need: $extra"
fi

# The registry is asked for nothing but its index; what it would verify is compiled below.
cargo publish --dry-run --no-verify --locked --allow-dirty 2>&1 | grep -v '^warning: ignoring'
cargo package --no-verify --locked --allow-dirty --quiet 2>&1 | grep -v '^warning: ignoring' || true

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
packed=target/package/rocket_jobqueue-$version
size=$(wc -c <"$packed.crate")
[ "$size" -lt 2000000 ] || fail "has $size bytes: more than 2 MB."

rm -rf "$packed"
tar -xzf "$packed.crate" -C target/package
(cd "$packed" && CARGO_TARGET_DIR=../.. cargo check --all-features --locked)
rm -rf "$packed"
printf 'The package has %s files and %s bytes.\n' "$(wc -l <<<"$files")" "$size"
