//! Deadlines of waits for other systems.

use std::time::{Duration, Instant};

/// The time at which a wait ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline `wait` from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a wait for another system takes real time and decides nothing"
    )]
    pub fn after(wait: Duration) -> Self {
        // 136 years if the sum overflows.
        let now = Instant::now();
        Self(now.checked_add(wait).unwrap_or(now + Duration::from_secs(1 << 32)))
    }

    /// Returns the remaining time, or zero after the deadline.
    #[expect(clippy::disallowed_methods, reason = "see `after`")]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
