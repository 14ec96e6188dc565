//! The analysis role.
