//! One test binary: what is checked from outside the rooms, from the house itself to a rollout on a real Kafka.

mod compose;
mod tidy;
