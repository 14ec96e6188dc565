//! Compiles the targets of `tests/it/fuzzed/` without the other tests, for libFuzzer.

#![expect(dead_code, reason = "some functions of these files are used by tests only")]

#[path = "../../tests/it/fuzzed/mod.rs"]
mod fuzzed;
#[path = "."]
mod scenarios {
    #[path = "../../tests/it/scenarios/plans.rs"]
    pub(crate) mod plans;
}

/// Runs a target.
///
/// # Panics
/// Panics if a law is broken, which libFuzzer reports, or if there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) =
        fuzzed::TARGETS.iter().find(|(f, _)| *f == name).expect("the target is in the list");
    target(bytes);
}
