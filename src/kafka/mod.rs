//! The shell: clock, clients, transactions, the role loops. The only room that names the Kafka client.

pub mod process;

pub mod client;

pub mod lanes;

pub mod serving;

pub mod labels;

pub mod analysis;

pub mod control;

pub mod model_worker;

pub mod audit;

pub mod instance;
