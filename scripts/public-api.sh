#!/usr/bin/env bash
#
# Compares the names of the public API with those in tests/golden/public_api.txt: modules,
# items, their methods, fields, variants and constants. What disappears breaks users, and
# what appears is a promise; both are to be wanted. scripts/semver.sh compares types too.
# The names are those of the documentation, which is made here; a warning of rustdoc is an error.
#
# Usage: scripts/public-api.sh            compares; the exit status is 1 if they differ
#        scripts/public-api.sh --write    writes the list

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

LIST=tests/golden/public_api.txt
DOC=${CARGO_TARGET_DIR:-target}/doc/rocket_jobqueue

rm -rf "$DOC"
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features --locked --quiet

names() {
  python3 - "$DOC" <<'PYTHON'
import pathlib, re, sys

root = pathlib.Path(sys.argv[1])
kinds = 'struct enum trait fn constant type macro union static'.split()
names = set()
for page in root.rglob('*.html'):
    folder = '::'.join(page.relative_to(root).parts[:-1])
    kind, _, name = page.stem.partition('.')
    if page.stem == 'index':
        names.add(f'mod {folder}' if folder else 'crate')
    if kind not in kinds:
        continue
    path = f'{folder}::{name}' if folder else name
    text = page.read_text()
    # A page of a private module leads on to where the item is public.
    if 'http-equiv="refresh"' in text:
        continue
    names.add(f'{kind} {path}')
    # Members of the item itself: what an implemented trait has belongs to that trait.
    implements = False
    for section, member in re.findall(
        r'id="(impl-[^"]*)"|id="((?:method|tymethod|variant|structfield|associatedconstant|associatedtype)\.\w+)"',
        text,
    ):
        if section:
            implements = '-for-' in section
        elif not implements:
            names.add(f'{kind} {path}::{member.split(".")[1]}')
print('\n'.join(sorted(names)))
PYTHON
}

if [ "${1:-}" = --write ]; then
  names >"$LIST"
  echo "$LIST has $(wc -l <"$LIST") names."
  exit
fi

if diff <(sort "$LIST") <(names | sort) >&2; then
  echo "The public API is as in $LIST."
else
  echo "The public API is not as in $LIST (<). If that is wanted, say it in CHANGELOG.md and run scripts/public-api.sh --write" >&2
  exit 1
fi
