//! The audit: recomputes every decision from the journals and compares it with the topics byte for byte.

pub mod audit;
