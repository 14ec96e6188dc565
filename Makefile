# The commands of this project. `make demo` and `make test` are all that a visitor needs.

# No implicit rules, and a failing command in a pipe fails the target.
MAKEFLAGS += --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: demo test check fix refresh bench fuzz doc

# Rolls out a model on live traffic before your eyes, in about a minute; nothing needs to be installed.
demo:
	cargo run --release -- demo

# Runs every test, those on a real Kafka included: installs the tools that tests use, starts a Kafka, tests, stops it, and keeps
# the tests' exit code. The last line says which tools could not be had.
test:
	tests/tools.sh with tests/kafka/kafka.sh with cargo test --workspace --no-fail-fast

# Checks all that CI checks before it tests: format, lints, the core without Kafka, the documentation, licences.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo check --no-default-features --lib --locked
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked
	if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
	else echo 'cargo-deny is not installed: a test of the repository checks licences and sources'; cargo test --locked --test it repository::dependencies; fi

# Mends what can be mended by machine.
fix:
	cargo clippy --fix --workspace --all-targets --allow-dirty --allow-staged
	cargo fmt --all

# Rewrites what is generated: schemas, the effects in scenarios, snapshots. Read the diff before you commit it.
refresh:
	UPDATE=1 INSTA_UPDATE=always SERINUS_SKIP_KAFKA=1 cargo test --workspace

# Measures with a release build: the serving path beside a raw pass-through on a real Kafka, a look, a labelled row; recovery, a burst, a flood.
bench:
	SERINUS_THROUGHPUT_REQUESTS=200000 tests/kafka/kafka.sh with cargo test --release --test it -- throughput costs --nocapture
	SERINUS_PENDING=1000000 SERINUS_RATE=100 tests/kafka/kafka.sh with cargo test --release --test it -- pressure --nocapture --test-threads=1

# Fuzzes every target for FUZZ_SECONDS, guided by coverage, from the committed corpus on.
fuzz:
	fuzz/run.sh

# Builds the documentation of the inside and opens it.
doc:
	cargo doc --workspace --no-deps --document-private-items --open
