//! One test binary: what is checked from outside the rooms, from the house itself to a rollout on a real Kafka.

mod kit;

mod compose;
mod ledger;
mod strangers;
mod throughput;
mod tidy;
