//! The published records: schemas, examples, and the assignment.

pub(crate) mod assignment;
pub(crate) mod examples;
pub(crate) mod schemas;
