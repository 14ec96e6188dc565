//! Methods that no decision uses. Tests compare the deciding ones with them, and all with published reference cases.

pub mod agreement;
pub mod completeness;
pub mod exact;
pub mod hash;
pub mod mixture;
pub mod msprt;
pub mod multiple;
pub mod quantile;
pub mod ranks;
pub mod scheduled;
pub mod two_sample;
