//! One test binary: what is checked from outside the rooms, from the repository itself to a rollout on a real Kafka.

mod kit;

mod cli;
mod fuzzed;
mod kafka;
mod laws;
mod repository;
mod scenarios;
mod specs;
mod statistics;
mod wire;
