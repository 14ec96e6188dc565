//! Runs an analyst lane on arbitrary bytes, read as a history.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("analyst_machine", bytes));
