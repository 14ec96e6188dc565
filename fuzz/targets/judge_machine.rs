//! Runs a judge on arbitrary bytes, read as a history.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("judge_machine", bytes));
