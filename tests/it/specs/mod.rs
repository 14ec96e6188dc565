//! Specs: what loads, and what is refused with which words.

pub(crate) mod errors;
pub(crate) mod examples;
pub(crate) mod shares;
