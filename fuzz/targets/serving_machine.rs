//! Histories of a serving lane, out of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("serving_machine", bytes));
