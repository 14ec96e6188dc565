//! The test kit, built on a Kafka client and the built program only, never on the inside of the crate: processes, topics, traffic, workers, proxies, and independent ledgers and scorers.
#![expect(unreachable_pub, reason = "a test binary has no outside; `pub` marks what the tests use")]

pub mod admin;
pub mod clock;
pub mod evidence;
pub mod fault_groups;
pub mod frames;
pub mod kafka;
pub mod ledger;
pub mod log;
pub mod process;
pub mod proxy;
pub mod scorer;
pub mod specs;
pub mod traffic;
pub mod worker;
pub mod world;
