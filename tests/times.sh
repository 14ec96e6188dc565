#!/usr/bin/env bash
# Measures how long each test takes; `make test TIMES=1` uses it.
#
#   times.sh with CMD...      runs CMD with TIMES_RUNNER set to the configuration that makes cargo run test binaries through
#                             this script, then prints the 20 slowest tests; the exit code is CMD's
#   times.sh run BINARY ARGS  runs one test binary and appends `SECONDS NAME` to the file TIMES_FILE for each of its tests
#
# The test harness reports the end of a test, not its start. It starts tests in the order of its list, as many at once as it
# has threads, and the next one whenever one ends: this gives every start.
set -euo pipefail

target=${CARGO_TARGET_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target}

now_us() { echo "${EPOCHREALTIME/[.,]/}"; }

run() { # binary, arguments
  local -A started=()
  local names=() next threads line name now
  mapfile -t names < <("$@" --list 2>/dev/null | sed -n 's/: test$//p')
  threads=${RUST_TEST_THREADS:-$(nproc)}
  now=$(now_us)
  for ((next = 0; next < threads && next < ${#names[@]}; next++)); do started[${names[next]}]=$now; done
  "$@" | while IFS= read -r line; do
    printf '%s\n' "$line"
    [[ $line =~ ^test\ ([^ ]+)\ .*(ok|FAILED|ignored) ]] || continue
    name=${BASH_REMATCH[1]}
    [[ -n ${started[$name]:-} ]] || continue
    now=$(now_us)
    printf '%d.%03d %s\n' $(((now - started[$name]) / 1000000)) $(((now - started[$name]) / 1000 % 1000)) "$name" >>"$TIMES_FILE"
    if ((next < ${#names[@]})); then started[${names[next]}]=$now; ((++next)); fi
  done
}

with() {
  local code=0
  mkdir -p "$target"
  export TIMES_FILE=$target/test-times.txt
  : >"$TIMES_FILE"
  "$@" || code=$?
  echo "the 20 slowest tests, in seconds (all of them: $TIMES_FILE):"
  sort -rn "$TIMES_FILE" | head -n 20
  exit "$code"
}

case ${1:-} in
  run | with) "$1" "${@:2}" ;;
  *) sed -n '2,9p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
