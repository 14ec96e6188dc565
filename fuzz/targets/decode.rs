//! Decodes arbitrary bytes as records of every kind.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::run("decode", bytes));
