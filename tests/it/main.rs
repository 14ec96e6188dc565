//! Tests.

mod assignment;
mod spec;
