//! Tests.

mod plans;
mod world;

mod laws_analyst;
mod records;
mod scenarios;
