//! The shell: clock, clients, transactions, the turn loop. The only room that names the Kafka client.

pub mod clock;
pub mod deadline;
pub mod options;
pub mod settings;
pub mod stop;

pub mod reader;
pub mod topics;

pub mod error;

mod native;
pub mod outbox;

pub mod follower;
pub mod group;
pub mod intake;
pub mod intake_command;
pub mod label_lane;
pub mod replay;
pub mod table;

pub mod counts;
pub mod shrink;

pub mod emit;
pub mod lane;
pub mod serving;

pub mod analysis;
pub mod analyst_lane;

pub mod control;

pub mod runtime;

pub mod answering;
pub mod embedded;
pub mod feeder;
