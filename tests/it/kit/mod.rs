//! The test kit: the world around Serinus, made of Kafka's client and the built program alone, nothing from inside the crate.
#![expect(unreachable_pub, reason = "a test binary has no outside; `pub` marks what the tests use")]

pub mod admin;
pub mod clock;
pub mod evidence;
pub mod frames;
pub mod kafka;
pub mod ledger;
pub mod process;
pub mod proxy;
pub mod scorer;
pub mod specs;
pub mod traffic;
pub mod worker;
pub mod world;
