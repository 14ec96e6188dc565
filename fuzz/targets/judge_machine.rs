//! Histories of a judge, out of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("judge_machine", bytes));
