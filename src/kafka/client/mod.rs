//! Around the Kafka client: settings, errors, consumers, the transactional producer and the admin client.

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
