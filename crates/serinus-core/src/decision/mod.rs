//! When a stage is passed: the gates, what a decision rests on, and when the evidence will be enough.

pub mod basis;
pub mod forecast;
pub mod gates;
