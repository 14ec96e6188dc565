# The commands of this project. `make demo` and `make test` are all that a visitor needs.

# No implicit rules, and a failing command in a pipe fails the target.
MAKEFLAGS += --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# Most tests wait for brokers and processes rather than compute: many run at once, also on two cores.
export RUST_TEST_THREADS ?= 6

# `make soak` runs chaos for this many seconds at this many requests per second.
SOAK_SECONDS ?= 3600
SOAK_RATE ?= 300

# Makes cargo run test binaries through `tests/times.sh`. A variable, because the comma would end an argument of `$(if)`.
TIMED = --config 'target."cfg(all())".runner = ["$(CURDIR)/tests/times.sh", "run"]'

.PHONY: demo test soak check fix refresh bench fuzz doc

# Rolls out a model on live traffic in about a minute. Needs only cargo.
demo:
	cargo run --release -- demo

# Runs every test, including those on a real Kafka: installs the tools that the tests use, starts a Kafka, runs the tests,
# stops the Kafka, and exits with the exit code of the tests. The last line lists the tools that could not be installed.
# `make test TIMES=1` also prints the 20 slowest tests.
test:
	tests/tools.sh with tests/kafka/kafka.sh with $(if $(TIMES),tests/times.sh with) \
	  cargo $(if $(TIMES),$(TIMED)) test --workspace --no-fail-fast

# Runs the long tests, in about two hours: the full acceptance protocol of the statistics, SOAK_SECONDS of chaos with a new
# seed (printed first), 40 instance lifetimes instead of 3, and 20,000 requests per ledger test instead of 5,000.
soak:
	cargo run --release --locked -- simulate --acceptance
	SERINUS_CHAOS_SECONDS=$(SOAK_SECONDS) SERINUS_CHAOS_RATE=$(SOAK_RATE) tests/kafka/kafka.sh with \
	  cargo test --release --locked --test it -- kafka::chaos:: --nocapture
	SERINUS_LIVES=40 SERINUS_LEDGER_REQUESTS=20000 tests/kafka/kafka.sh with \
	  cargo test --release --locked --test it -- kafka::ledger:: kafka::labels:: kafka::crash_points:: --test-threads=2

# Runs the checks that CI runs before the tests: format, lints, the core without Kafka, documentation, licenses.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo check --no-default-features --lib --locked
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked
	if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
	else echo 'cargo-deny is not installed: a test of the repository checks licenses and sources instead'; cargo test --locked --test it repository::dependencies; fi

# Applies the fixes that clippy and rustfmt can make.
fix:
	cargo clippy --fix --workspace --all-targets --allow-dirty --allow-staged
	cargo fmt --all

# Rewrites generated files: schemas, the effects in scenarios, the list of messages, snapshots. Read the diff before you commit it.
refresh:
	UPDATE=1 INSTA_UPDATE=always SERINUS_SKIP_KAFKA=1 cargo test --workspace

# Measures a release build: throughput next to a raw pass-through on a real Kafka, one interim analysis, one labelled row;
# then recovery, a burst and a flood.
bench:
	SERINUS_THROUGHPUT_REQUESTS=200000 tests/kafka/kafka.sh with cargo test --release --test it -- throughput costs --nocapture
	SERINUS_PENDING=1000000 SERINUS_RATE=100 tests/kafka/kafka.sh with cargo test --release --test it -- pressure --nocapture --test-threads=1

# Fuzzes every target for FUZZ_SECONDS, guided by coverage, starting from the committed corpus.
fuzz:
	fuzz/run.sh

# Builds the internal documentation and opens it.
doc:
	cargo doc --workspace --no-deps --document-private-items --open
