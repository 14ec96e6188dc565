//! The control role.
