//! Histories of an analyst lane, out of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("analyst_machine", bytes));
