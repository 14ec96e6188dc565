//! The shell: clock, clients, transactions, the turn loop. The only room that names the Kafka client.

pub mod options;
pub mod stop;

pub mod deadline;
pub mod settings;

pub mod reader;
pub mod topics;
