//! The only place where time is read. Everything else is told.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serinus_core::domain::time::Timestamp;

/// Returns the time on the wall, once for a whole turn.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    // A clock before 1970 is a machine that has not been set; 0 is as good as any.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX / 4))
}

/// Returns a moment that only goes forward, to measure waits with.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn moment() -> Instant {
    Instant::now()
}
