#!/usr/bin/env bash
# Builds the fuzz targets with a stable compiler and runs all of them, or the named ones: `fuzz/run.sh decode spec`. New inputs go to
# target/fuzz/found. FUZZ_MERGE=1 does not run the targets; it adds the found inputs that reach new code to the committed corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${FUZZ_SECONDS:-60}
targets=("$@")
((${#targets[@]})) || targets=(decode spec serving_machine analyst_machine judge_machine)
# A step of a machine has five or six bytes, and the machines read at most a hundred steps.
declare -A len_max=([decode]=2000 [spec]=3000 [serving_machine]=500 [analyst_machine]=500 [judge_machine]=480)
# Whether the number of times that a branch is taken counts as coverage. It does for histories; for the decoders, which have many
# branches, it would keep too many inputs.
declare -A counters=([decode]=0 [spec]=0 [serving_machine]=1 [analyst_machine]=1 [judge_machine]=1)

# The flags that `cargo fuzz` passes, for a stable compiler. An explicit target triple keeps the flags away from build scripts and
# macros, which are not linked to libFuzzer.
flags='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
flags+=' -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing'
triple=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$flags cargo build --release --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --target "$triple"

mkdir -p target/fuzz/crashes
for name in "${targets[@]}"; do
  program=target/fuzz/$triple/release/$name
  found=target/fuzz/found/$name
  corpus=fuzz/corpus/$name
  mkdir -p "$found" "$corpus"
  echo "== $name"
  if [[ ${FUZZ_MERGE:-} ]]; then
    # Files of the corpus are named after their outcome, `once-broken-by-...` after the fault that they found. libFuzzer names the
    # files that it adds by their hash: rename them before the commit, and keep each folder near a hundred files.
    "$program" -merge=1 "-use_counters=${counters[$name]}" "-max_len=${len_max[$name]}" "$corpus" "$found" 2>&1 | tail -n 1
    continue
  fi
  log=target/fuzz/$name.log
  if ! "$program" "$found" "$corpus" -max_len="${len_max[$name]}" -max_total_time="$seconds" -timeout=20 -print_final_stats=1 \
    -artifact_prefix="target/fuzz/crashes/$name-" >"$log" 2>&1; then
    grep -a -v -E '^#[0-9]+' "$log" | tail -n 60
    echo "$name: a law is broken, or the target crashed; repeat with: $program $(ls -t target/fuzz/crashes/"$name"-* | head -n 1)"
    exit 1
  fi
  grep -a -E 'INITED|DONE|^stat::' "$log"
done
