//! Reads arbitrary bytes as a spec file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("spec", bytes));
