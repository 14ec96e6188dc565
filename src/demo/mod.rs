//! The self-contained demonstration on real flights.
