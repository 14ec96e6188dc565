//! The Kafka side of a model worker: reads requests, writes responses, and commits offsets once they are delivered.

pub mod answering;
