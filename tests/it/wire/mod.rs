//! Tests of the published records: schemas, the examples of the contract, and the assignment.

pub(crate) mod assignment;
pub(crate) mod examples;
pub(crate) mod schemas;
