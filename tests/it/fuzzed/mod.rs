//! What a fuzz target does with bytes: `make fuzz` runs these guided by coverage, the tests run the committed corpus through them.
//!
//! `fuzz/` compiles this folder too, so nothing here needs Kafka or a dependency of the tests alone.

pub(crate) mod decode;
pub(crate) mod spec;

pub(crate) mod serving;
pub(crate) mod serving_history;
pub(crate) mod serving_laws;

pub(crate) mod analyst;
pub(crate) mod analyst_history;
pub(crate) mod analyst_laws;
pub(crate) mod analyst_naive;

pub(crate) mod judge;
pub(crate) mod judge_history;
pub(crate) mod judge_laws;

/// Takes any bytes, holds what becomes of them to its laws and panics where one is broken; returns whether there was anything to hold.
pub(crate) type Target = fn(&[u8]) -> bool;

// A new target: its line here, its line in `fuzz/Cargo.toml` and its file in `fuzz/targets/`, and a corpus in `fuzz/corpus/`.
pub(crate) const TARGETS: [(&str, Target); 5] = [
    ("decode", decode::run),
    ("spec", spec::run),
    ("serving_machine", serving::run),
    ("analyst_machine", analyst::run),
    ("judge_machine", judge::run),
];
