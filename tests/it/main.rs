//! Tests.

mod assignment;
mod schemas;
mod spec;
mod spec_errors;
