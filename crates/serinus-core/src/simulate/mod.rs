//! Synthetic worlds: simulate how often and how soon a spec decides wrongly or rightly.
//!
//! Only the sums of the lanes are drawn. Everything else is the program's own code: the judge with its phases and stages, the
//! design of its bets, the gates and the tests. A world ends with its rollout or with its traffic.

pub mod nature;

mod cases;
mod flow;
mod sums;
mod world;

pub mod acceptance;
pub mod survey;
