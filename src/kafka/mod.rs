//! The shell: clock, clients, transactions, the turn loop. The only room that names the Kafka client.

pub mod clock;
pub mod deadline;
pub mod guarded;
pub mod options;
pub mod settings;
pub mod stop;

pub mod claims;
pub mod demand;
pub mod limits;
pub mod reader;
pub mod topics;

pub mod error;

pub mod crash;
mod native;
pub mod outbox;
pub mod pulse;
pub mod watchdog;

pub mod admission;
pub mod follower;
pub mod group;
pub mod intake;
pub mod known;
pub mod label_ends;
pub mod label_lane;
pub mod label_readers;
pub mod offsets;
pub mod replay;
pub mod slot;
pub mod sums;
pub mod table;
pub mod uncommitted;

pub mod counts;
pub mod shrink;

pub mod courier;
pub mod emit;
pub mod forwards;
pub mod lane;
pub mod notices;
pub mod recall;
pub mod reopen;
pub mod serving;

pub mod analysis;
pub mod analyst_lane;
pub mod lane_store;
pub mod plan_wait;
pub mod remains;
pub mod rows;

pub mod bench;
pub mod commands;
pub mod control;
pub mod verdicts;

pub mod audit;

pub mod runtime;

pub mod answering;
pub mod embedded;
pub mod feeder;
