//! Reference methods, which decide nothing: the program's own methods are compared with them.

pub mod completeness;
pub mod hash;
pub mod mixture;
pub mod msprt;
pub mod quantile;
pub mod scheduled;
