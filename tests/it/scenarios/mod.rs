//! Runs the scenario files, which read as the specification: `rollouts` through lanes and judge, `serving` through a serving lane, `plans` reads their heads.

pub(crate) mod plans;
pub(crate) mod rollouts;
pub(crate) mod serving;
