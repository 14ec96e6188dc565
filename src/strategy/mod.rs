//! The two questions every strategy answers, `route` and `judge`, over plain data.

pub mod metric;
pub mod stage;

pub mod assign;

pub mod design;
