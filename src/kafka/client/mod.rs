//! The Kafka client as the roles use it.
//!
//! `settings` holds every property that we rely on, `error` every failure and the codes that a retry can cure. Roles read
//! through `consumer_group` and write through `transaction`. A restore reads ranges with `partition_reader`, commands of
//! the CLI read with `topic_reader`; both use the one loop in `partition_scan`.

pub mod client_log;
pub mod error;
pub mod ffi;
pub mod guarded_properties;
pub mod message;
pub mod settings;

pub mod outgoing;
pub mod partition_counts;
pub mod plain_producer;
pub mod transaction;

pub mod committed_offsets;
pub mod consumer_group;
pub mod instance_lease;

pub mod partition_reader;
pub mod partition_scan;
pub mod topic_reader;
pub mod topic_scan;
pub mod uncommitted_reader;

pub mod admin;
pub mod mock_broker;
pub mod record_limits;
pub mod topic_requirements;
