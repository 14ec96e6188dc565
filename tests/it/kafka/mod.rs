//! Tests on a real Kafka with the built program: guarantees (`ledger`, `chaos`, `crash_points`, `faults`), lost or hidden state (`lost_*`, `open_transactions`), input (`bad_input`, `labels`, `odd_inputs`), instances and topics.

pub(crate) mod audit;
pub(crate) mod avro;
pub(crate) mod bad_input;
pub(crate) mod broker_errors;
pub(crate) mod chaos;
pub(crate) mod control;
pub(crate) mod crash_points;
pub(crate) mod faults;
pub(crate) mod foreign_clients;
pub(crate) mod health;
pub(crate) mod instances;
pub(crate) mod labels;
pub(crate) mod lane_snapshots;
pub(crate) mod ledger;
pub(crate) mod lost_brokers;
pub(crate) mod lost_offsets;
pub(crate) mod lost_records;
pub(crate) mod odd_inputs;
pub(crate) mod open_transactions;
pub(crate) mod pressure;
pub(crate) mod recorded_run;
pub(crate) mod shared_topics;
pub(crate) mod throughput;
pub(crate) mod unscorable_inputs;
pub(crate) mod unwritable_topics;
pub(crate) mod worker;
