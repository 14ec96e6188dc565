//! The specification: the YAML as it is written, as it is meant, and what is wrong with it.
