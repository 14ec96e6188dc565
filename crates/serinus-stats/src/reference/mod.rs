//! Methods that the product does not decide with: reference functions that its own are compared with, each with its cases.

pub mod completeness;
pub mod hash;
pub mod mixture;
pub mod msprt;
pub mod quantile;
pub mod scheduled;
