//! Tests of specs: `examples` load, `errors` are reported with position and fix, ambiguous `shares` are refused.

pub(crate) mod errors;
pub(crate) mod examples;
pub(crate) mod shares;
