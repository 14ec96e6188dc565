# The commands of this project. `make demo` and `make test` are all that a visitor needs.

# No implicit rules, and a failing command in a pipe fails the target.
MAKEFLAGS += --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: demo test check fix refresh bench fuzz doc

# Rolls out a model on live traffic before your eyes, in about a minute; nothing needs to be installed.
demo:
	cargo run --release -- demo

# Runs every test, those on a real Kafka included: starts one, tests, stops it, and keeps the tests' exit code.
test:
	tests/kafka/kafka.sh with cargo test --no-fail-fast

# Checks all that CI checks before it tests: format, lints, the core without Kafka, the documentation, licences.
check:
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo check --no-default-features --lib --locked
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --document-private-items --locked
	if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
	else echo 'cargo-deny is not installed: the tidy test checks licences and sources'; cargo test --locked --test it tidy::dependencies; fi

# Mends what can be mended by machine.
fix:
	cargo clippy --fix --all-targets --allow-dirty --allow-staged
	cargo fmt

# Rewrites what is generated: schemas, the effects in scenarios, snapshots. Read the diff before you commit it.
refresh:
	UPDATE=1 INSTA_UPDATE=always SERINUS_SKIP_KAFKA=1 cargo test

# Measures with a release build: the serving path beside a raw pass-through on a real Kafka, a look, a labelled row; recovery, a burst, a flood.
bench:
	SERINUS_THROUGHPUT_REQUESTS=200000 tests/kafka/kafka.sh with cargo test --release --test it -- throughput costs --nocapture
	SERINUS_PENDING=1000000 SERINUS_RATE=100 tests/kafka/kafka.sh with cargo test --release --test it -- pressure --nocapture --test-threads=1

# Fuzzes every target for FUZZ_SECONDS, guided by coverage, from the committed corpus on. What is found comes to stand in target/fuzz/found;
# a broken law ends it and says which file shows it: run the same command with that file in the place of the folders.
FUZZ_SECONDS ?= 60
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
fuzz:
	cd fuzz && RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --release --locked --target $(FUZZ_HOST) --target-dir ../target/fuzz
	for target in decode spec serving_machine analyst_machine; do \
	  mkdir -p target/fuzz/found/$$target; \
	  target/fuzz/$(FUZZ_HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=20 -max_len=4096 \
	    -artifact_prefix=target/fuzz/$$target- target/fuzz/found/$$target fuzz/corpus/$$target; \
	done

# Builds the documentation of the inside and opens it.
doc:
	cargo doc --no-deps --document-private-items --open
