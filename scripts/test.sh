#!/usr/bin/env bash
#
# Runs every test and check of the project, as CI does. Nothing is skipped: what
# a test needs and the machine lacks is installed through apt-get where that is
# allowed (as root, or with sudo that asks for no password), and named otherwise.
#
# Usage: scripts/test.sh
#
# Ends with a line `N passed, N failed`; the exit status is 0 when every step
# succeeded. The quick part is scripts/check.sh.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# What is needed, as `program=Debian package`.
TOOLS=(
  cc=gcc
  redis-server=redis-server
  redis-cli=redis-tools
  chromium=chromium
  chromedriver=chromium-driver
  docker-compose=docker-compose
  shellcheck=shellcheck
  curl=curl
  awk=mawk
  ps=procps # for its kill, which shells hide behind a builtin
  openssl=openssl
  valgrind=valgrind
  tmux=tmux
  pgrep=procps
  promtool=prometheus # checks the alerting rules; nothing is started
)

# A fresh clone is compiled once: what makes the next build quick, and what debuggers read, takes
# half of the disk and a part of the time. A panic names its file and line without it.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

# rustup puts cargo where a shell without a login does not look.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

OUTPUT=$(mktemp) || exit 1
trap 'rm -f "$OUTPUT" "$OUTPUT".*' EXIT
FAILED=()
# The steps that run beside others: their processes, by their titles.
declare -A BESIDE

missing_packages() {
  local entry
  for entry in "${TOOLS[@]}"; do
    command -v "${entry%%=*}" >/dev/null 2>&1 || printf '%s ' "${entry#*=}"
  done
  # The C library's headers, which a compiler alone does not bring.
  [ -e /usr/include/stdlib.h ] || printf 'libc6-dev '
  python3 -c 'import ensurepip' >/dev/null 2>&1 || printf 'python3-venv '
}

install_tools() {
  local packages by=()
  read -ra packages <<<"$(missing_packages)"
  [ "${#packages[@]}" -gt 0 ] || return 0

  echo "Missing Debian packages: ${packages[*]}"
  [ "$(id -u)" -eq 0 ] || by=(sudo -n)
  if command -v apt-get >/dev/null 2>&1 && "${by[@]}" true 2>/dev/null; then
    # Nobody is asked. Services the packages start do no harm: every test
    # starts servers of its own on free ports.
    "${by[@]}" apt-get update -qq &&
      "${by[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null
    read -ra packages <<<"$(missing_packages)"
    [ "${#packages[@]}" -gt 0 ] || return 0
  fi
  echo "Please run: sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
  return 1
}

# Debian 12's own Go is older than Asynq needs. Its backports are asked beside
# the sources the machine has, for this once.
install_go() {
  scripts/interop.sh --go && return 0
  echo "Missing: a Go that Asynq can be built with"

  local by=() extra uri options=()
  [ "$(id -u)" -eq 0 ] || by=(sudo -n)
  if command -v apt-get >/dev/null 2>&1 && "${by[@]}" true 2>/dev/null; then
    extra=$(mktemp -d) || return 1
    # shellcheck disable=SC2016 # the names are apt's
    uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' |
      awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
    if [ -n "$uri" ]; then
      cp -r /etc/apt/sources.list.d/. "$extra"
      echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri bookworm-backports main" \
        >"$extra/interop-backports.list"
      options=(-o "Dir::Etc::SourceParts=$extra" -t bookworm-backports)
    fi
    "${by[@]}" apt-get "${options[@]}" update -qq &&
      "${by[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get "${options[@]}" install -y -qq --no-install-recommends golang-go </dev/null
    rm -rf "$extra"
  fi
  scripts/interop.sh --go && return 0
  # Says what to do; nothing else comes of it without Go.
  scripts/interop.sh
}

need_rust() {
  if ! cargo --version; then
    local oldest
    oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    echo "cargo is missing. Install Rust $oldest or newer with:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    return 1
  fi
  if ! cargo fmt --version || ! cargo clippy --version; then
    echo "Please run: rustup component add rustfmt clippy" >&2
    return 1
  fi
}

# Runs one step under a heading; its output is kept for the sum at the end.
step() {
  local title=$1 begin=$SECONDS status
  shift
  printf '\n== %s\n' "$title"
  "$@" 2>&1 | tee -a "$OUTPUT"
  status=${PIPESTATUS[0]}
  if [ "$status" -eq 0 ]; then
    printf -- '-- %s: ok, %s s\n' "$title" "$((SECONDS - begin))"
  else
    printf -- '-- %s: FAILED with status %s, %s s\n' "$title" "$status" "$((SECONDS - begin))"
    FAILED+=("$title")
  fi
  return "$status"
}

# Starts one step beside those that follow, up to its `join`: one that mostly waits.
beside() {
  OUTPUT=/dev/null step "$@" >"$OUTPUT.${1// /_}" 2>&1 &
  BESIDE[$1]=$!
}

# Waits for that step, and shows what it printed.
join() {
  wait "${BESIDE[$1]}" || FAILED+=("$1")
  tee -a "$OUTPUT" <"$OUTPUT.${1// /_}"
}

tests() {
  cargo test --all-features --locked --no-fail-fast "$@"
}

# A folder for the tests' stores: in memory where there is room for them, since thousands of cases
# sync a folder of their own. What a power failure leaves, they make themselves.
stores_folder() {
  local room
  room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
  if [ -w /dev/shm ] && [ "${room:-0}" -ge 4000000 ]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi
}

# The test programs that are no fleets and do not measure or count: those run beside others, or alone.
other_programs() {
  local file name
  for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    case $name in
      it | lateness | limits | cluster | sentinel | costs) ;;
      *) printf -- '--test=%s\n' "$name" ;;
    esac
  done
}

# The cases of the stores without a server are not repeated: `it` has them.
fleets() {
  tests --test cluster --test sentinel -- --skip Store__Memory --skip Store__Disk
}

# Rocket 0.5.2, with a lock of its own. What the lints checked is not checked again.
host() {
  (cd tests/host && CARGO_TARGET_DIR=../../target cargo check --locked)
}

# A package of its own, with the features of the whole workspace: so nothing is compiled a second time.
terminal() {
  tests --workspace --bin jobqueue --test terminal
}

# What the load driver is compared with still builds.
peers() {
  (cd benches/peers/go && [ -z "$(gofmt -l .)" ] && go vet ./...) &&
    (cd benches/peers/rust && cargo fmt --check &&
      CARGO_TARGET_DIR=../../../target cargo check --locked) &&
    (cd benches/peers/azums && cargo fmt --check &&
      CARGO_TARGET_DIR=../../../target cargo check --locked)
}

# What docs/monitoring has for Prometheus. Whether the metrics exist is a test of the crate.
alerting_rules() {
  promtool check rules docs/monitoring/alerts.yml &&
    promtool test rules docs/monitoring/alerts_test.yml
}

# Adds up cargo's `test result: ok. 3 passed; 1 failed; …` and what came of the
# cases with Go, `interop: 3 of 4 passed, 0 skipped`, and of the fault campaign,
# `chaos: 3 of 4 passed`.
sum() {
  awk '/^test result: / {
         for (i = 1; i <= NF; i++) {
           if ($i == "passed;") passed += $(i - 1)
           if ($i == "failed;") failed += $(i - 1)
         }
       }
       /^(interop|chaos): / { passed += $2; failed += $4 - $2 }
       END { printf "%d passed, %d failed\n", passed, failed }' "$OUTPUT"
}

# Names the tests that failed, each with the first lines of what it printed: the log of a
# long run may be cut, and its end is what remains.
failures() {
  awk '/^test .* FAILED$/ || /^FAILED? / { print }
       /^---- .* stdout ----$/ { print; left = 25; next }
       left > 0 { print substr($0, 1, 300); left-- }' "$OUTPUT"
}

step "Tools" install_tools && step "Go" install_go && step "Rust" need_rust || exit 1

# Downloads, while the compiler has the cores; and a program that is built with what is left of
# them, in a folder of its own, so that no test waits for cargo's lock.
beside "Servers" scripts/servers.sh fetch gate
beside "Program that compares APIs" nice -n 19 scripts/semver.sh --program
step "Shell scripts" shellcheck scripts/*.sh .ci/run
step "Arithmetic of docs/scaling.md" scripts/scaling.sh
step "Alerting rules" alerting_rules
step "Format" cargo fmt --all --check
step "Lints" cargo clippy --workspace --all-targets --all-features --locked --keep-going -- -D warnings
step "Test programs" tests --no-run
mapfile -t OTHERS < <(other_programs)
# On two cores: a test that waits for a lease or a failover leaves its core to others.
beside "Tests of fleets" fleets
TMPDIR=$(stores_folder) step "Tests" tests --lib --test it -- --test-threads 4
step "Tests of pages and programs" tests "${OTHERS[@]}"
join "Tests of fleets"
join "Program that compares APIs"
join "Servers"
step "Tests that measure" tests --test lateness --test limits
step "Examples in the documentation" tests --doc
beside "Interoperation with Go Asynq" scripts/interop.sh
step "Tests on other servers" scripts/servers.sh gate
join "Interoperation with Go Asynq"
# After the programs of Asynq were built: one of its tests compares the verbs.
beside "Terminal" terminal
# Its processes mostly wait for leases to end.
beside "Fault campaign" scripts/chaos.sh --gate
beside "Counts" tests --test costs
step "Peers of the benchmarks" peers
step "Without default features" cargo clippy --no-default-features --locked -- -D warnings
step "Documentation and public names" scripts/public-api.sh
step "Compatibility with the newest release" scripts/semver.sh
step "Package" scripts/package.sh
step "Host application on Rocket 0.5.2" host
join "Terminal"
join "Counts"
join "Fault campaign"
step "The API against its document" scripts/check-api.sh

echo
if [ "${#FAILED[@]}" -gt 0 ]; then
  failures
  printf 'Failed: %s\n' "${FAILED[@]}"
fi
sum
[ "${#FAILED[@]}" -eq 0 ]
