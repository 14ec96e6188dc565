//! Tests of the statistics without Kafka: against reference values (`reference`, `scipy_check`), and through lanes and judge (`kinds`, `latency`, `unscored`, `unusable`, `segments`, `split_check`, all on `world`).

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
