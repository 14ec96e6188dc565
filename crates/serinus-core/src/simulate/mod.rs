//! Synthetic worlds: how often a spec decides wrongly, and when it decides, found by letting it decide.
//!
//! What is drawn is what a lane would have summed up; from there on everything is the program's own: the judge with its phases
//! and stages, the design of its bets, the gates, the tests. A world ends when the rollout does, or when its traffic does.

pub mod nature;

mod cases;
mod flow;
mod sums;
mod world;

pub mod acceptance;
pub mod survey;
