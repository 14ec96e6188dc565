//! Tests.

mod assignment;
mod cli;
mod schemas;
mod spec;
mod spec_errors;
