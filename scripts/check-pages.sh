#!/usr/bin/env bash
#
# Asks axe for faults of accessibility: every page of the dashboard, in both themes and languages
# and at three widths, in headless Chromium. No finding is accepted.
#
# Usage: scripts/check-pages.sh
#
# Needs npm for axe-core, which is kept below target/, and Chromium with its driver.

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VERSION=4.14.1
FOLDER=target/axe-$VERSION

if [ ! -f "$FOLDER/axe.min.js" ]; then
  mkdir -p "$FOLDER"
  npm pack --silent --pack-destination "$FOLDER" "axe-core@$VERSION" >/dev/null
  tar -xzf "$FOLDER/axe-core-$VERSION.tgz" -C "$FOLDER" --strip-components=1 package/axe.min.js
fi
AXE="$PWD/$FOLDER/axe.min.js" cargo test --locked --all-features --test browser -- --ignored axe
