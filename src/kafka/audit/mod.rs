//! The audit: recomputes every decision from the topics and compares byte for byte.

pub mod audit;
