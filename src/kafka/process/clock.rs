//! The only place that reads the clock. Everything else takes the time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serinus_core::domain::time::Timestamp;

/// Returns the wall-clock time. A role reads it once per turn.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    // A clock before 1970 was never set: use 0.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX / 4))
}

/// Returns the monotonic time, for measuring waits.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn moment() -> Instant {
    Instant::now()
}
