//! Tests.

mod spec;
