//! Bytes to domain and back: records, headers, schemas.

pub mod placement;
