#!/usr/bin/env bash
#
# Computes the tables of docs/scaling.md from the figures at its top, so that the page says
# what its figures say.
#
# Usage: scripts/scaling.sh            compares, as scripts/test.sh does
#        scripts/scaling.sh --write    writes the tables

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PAGE=docs/scaling.md

# The page with its computed parts anew: what stands between the two comments.
computed() {
  awk '
    function figure(name) {
      if (!(name in value)) { print "scaling: no figure " name >"/dev/stderr"; bad = 1; exit 1 }
      return value[name]
    }
    function up(x) { return x == int(x) ? x : int(x) + 1 }
    # 34722 → 34,722
    function commas(n,   text, out) {
      text = sprintf("%d", n + 0.5)
      while (length(text) > 3) { out = "," substr(text, length(text) - 2) out; text = substr(text, 1, length(text) - 3) }
      return text out
    }
    function table(   day, mean, peak, us, masters, busy, slots, processes, bytes, hour) {
      us = figure("enqueue_us") + figure("run_us")
      print "| jobs a day | a second, mean | at the peak | core of one Redis at the peak | masters | slots of workers | worker processes | cores of this crate itself | an hour of waiting jobs | of it on each master |"
      print "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
      for (day = 8; day <= 10; day++) {
        mean = 10 ^ day / 86400
        peak = mean * figure("peak")
        busy = peak * us / 1e6
        masters = up(busy / (figure("busy_percent") / 100))
        slots = up(peak * figure("handler_ms") / 1000)
        processes = up(slots / figure("slots_per_process"))
        bytes = figure("job_bytes") + figure("payload_bytes")
        hour = mean * 3600 * bytes / 1e9
        printf "| 10^%d | %s | %s | %.2f | %d | %s | %s | %.1f | %.1f GB | %.1f GB |\n", day, commas(mean), commas(peak), busy, masters, commas(slots), commas(processes), peak * figure("worker_us") / 1e6, hour, hour / masters
      }
    }
    function queue(   us, most) {
      us = figure("enqueue_us") + figure("run_us")
      most = figure("busy_percent") / 100 * 1e6 / us
      printf "One queue may thus have %s jobs a second at its peak, or %s million a day: with larger calls, which a busy\n", commas(most), sprintf("%.0f", most * 86400 / figure("peak") / 1e6)
      printf "queue has by itself (%s µs for a job), twice to three times as many.\n", figure("enqueue_busy_us") + figure("run_busy_us")
    }
    /^\| `[a-z_]+` \|/ { split($0, cell, "|"); name = cell[2]; gsub(/[ `]/, "", name); value[name] = cell[3] + 0 }
    /^<!-- computed: / { print; print ""; if ($3 == "table") table(); else queue(); print ""; skip = 1; next }
    /^<!-- end -->/ { skip = 0 }
    !skip { print }
    END { exit bad }
  ' "$PAGE"
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
computed >"$new"
case ${1:-} in
  --write) cat "$new" >"$PAGE" ;;
  '')
    if diff -u "$PAGE" "$new"; then
      echo "$PAGE says what its figures say"
    else
      echo "$PAGE: its tables do not follow from its figures: scripts/scaling.sh --write" >&2
      exit 1
    fi
    ;;
  *) sed -n '3,8s/^# \{0,1\}//p' "$0" >&2; exit 1 ;;
esac
