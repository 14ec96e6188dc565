#!/usr/bin/env bash
# Builds the fuzz targets with a stable compiler and runs them one after the other, or those that are named: `fuzz/run.sh decode spec`.
# What is found goes to target/fuzz/found. FUZZ_MERGE=1 puts what is new of it into the committed corpus instead of running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${FUZZ_SECONDS:-60}
targets=("$@")
((${#targets[@]})) || targets=(decode spec serving_machine analyst_machine judge_machine)
# A step of a machine is five or six bytes, and a hundred steps are all that it takes.
declare -A len_max=([decode]=2000 [spec]=3000 [serving_machine]=500 [analyst_machine]=500 [judge_machine]=480)
# How often a branch is taken tells histories apart; of the decoders, with their many branches, it would keep too much.
declare -A counters=([decode]=0 [spec]=0 [serving_machine]=1 [analyst_machine]=1 [judge_machine]=1)
files_max=400

# What `cargo fuzz` passes, for a stable compiler. With a triple of their own, build scripts and macros are left without: they run
# where libFuzzer is not.
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
    # A small set of files that comes as far as all of them together, the most telling first, and no more than are read at a glance.
    merged=target/fuzz/merged/$name
    rm -rf "$merged" && mkdir -p "$merged"
    "$program" -set_cover_merge=1 "-use_counters=${counters[$name]}" "-max_len=${len_max[$name]}" "$merged" "$corpus" "$found" 2>&1 | tail -n 1
    # A file with a name of its own stands for something that broke once, and stays.
    find "$corpus" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
    ls -tr "$merged" | sed -n "1,${files_max}p" | while read -r file; do cp "$merged/$file" "$corpus/"; done
    continue
  fi
  log=target/fuzz/$name.log
  if ! "$program" "$found" "$corpus" -max_len="${len_max[$name]}" -max_total_time="$seconds" -timeout=20 -print_final_stats=1 \
    -artifact_prefix="target/fuzz/crashes/$name-" >"$log" 2>&1; then
    grep -a -v -E '^#[0-9]+' "$log" | tail -n 60
    echo "$name: a law is broken, or it crashed. To repeat it: $program $(ls -t target/fuzz/crashes/"$name"-* | head -n 1)"
    exit 1
  fi
  grep -a -E 'INITED|DONE|^stat::' "$log"
done
