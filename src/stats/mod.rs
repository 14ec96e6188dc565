//! Numbers in, numbers out: two-sample tests, e-processes, the split check, sketches and special functions.
