//! The scenario files, which read as the specification.

pub(crate) mod plans;
pub(crate) mod rollouts;
pub(crate) mod serving;
