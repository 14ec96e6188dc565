//! The targets of `tests/it/fuzzed/`, compiled apart from the tests so that libFuzzer's binaries carry nothing else.

#![expect(dead_code, reason = "the tests use more of these files than the targets do")]

#[path = "../../tests/it/fuzzed/mod.rs"]
mod fuzzed;
#[path = "."]
mod scenarios {
    #[path = "../../tests/it/scenarios/plans.rs"]
    pub(crate) mod plans;
}

/// Runs the target of this name.
///
/// # Panics
/// When a law is broken, which is what libFuzzer looks for; and when no target is called so.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) =
        fuzzed::TARGETS.iter().find(|(f, _)| *f == name).expect("the target is in the list");
    target(bytes);
}
