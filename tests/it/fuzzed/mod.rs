//! Fuzz targets: `make fuzz` runs them guided by coverage, and the tests run the committed corpus through them. Each target has histories (`*_history`) and laws (`*_laws`).
//!
//! `fuzz/` compiles this folder too, so nothing here needs Kafka or a dev-dependency.

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

/// Takes any bytes, checks the laws and panics if one is broken; returns whether the input exercised a law.
pub(crate) type Target = fn(&[u8]) -> bool;

// A new target: a line here, a line in `fuzz/Cargo.toml`, a file in `fuzz/targets/`, and a corpus in `fuzz/corpus/`.
pub(crate) const TARGETS: [(&str, Target); 5] = [
    ("decode", decode::run),
    ("spec", spec::run),
    ("serving_machine", serving::run),
    ("analyst_machine", analyst::run),
    ("judge_machine", judge::run),
];
