//! The `serinus` binary.

fn main() {}
