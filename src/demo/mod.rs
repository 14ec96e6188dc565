//! The self-contained demonstration on real flights.

pub mod flights;
