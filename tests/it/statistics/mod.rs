//! What is measured and proved, without Kafka: against reference figures, and through lanes and judge.

pub(crate) mod comparable;
pub(crate) mod costs;
pub(crate) mod intervals;
pub(crate) mod kinds;
pub(crate) mod latency;
pub(crate) mod reference;
pub(crate) mod scipy_check;
pub(crate) mod segments;
pub(crate) mod simulate;
pub(crate) mod split_check;
pub(crate) mod unscored;
pub(crate) mod unusable;
pub(crate) mod world;
