//! One test binary: what is checked from outside the rooms, from the house itself to a rollout on a real Kafka.

mod kit;

mod audit;
mod avro;
mod bad_input;
mod broker_errors;
mod chaos;
mod compose;
mod control;
mod crash_points;
mod demo;
mod faults;
mod gone;
mod gone_states;
mod health;
mod labels;
mod lane_files;
mod ledger;
mod left_open;
mod lost_brokers;
mod odd_inputs;
mod pressure;
mod shared_topics;
mod slots;
mod strangers;
mod throughput;
mod tidy;
mod tools;
mod unreadable;
mod unwritable;
mod worker;

mod assignment;
mod cli;
mod cli_names;
mod comparable;
mod plans;
mod schemas;
mod spec;
mod spec_errors;
mod spec_shares;
mod world;

mod simulate;

mod costs;
mod intervals;
mod kinds;
mod latency;
mod segments;
mod unscored;
mod unusable;

mod corpus;
mod decoders;
mod fuzzed;
mod laws_analyst;
mod laws_plans;
mod laws_reading;
mod laws_serving;
mod records;
mod scenarios;
mod scenarios_serving;
mod split_check;

mod reference;
mod scipy_check;
