#!/usr/bin/env bash
#
# The quick part of scripts/test.sh, for every save: format, lints, unit tests.
#
# Usage: scripts/check.sh

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo fmt --check
cargo clippy --all-targets --all-features -- -D warnings
cargo test --all-features --lib
