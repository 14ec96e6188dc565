//! How long to wait for an answer from outside.

use std::time::{Duration, Instant};

/// The moment at which someone stops to wait.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the moment so long from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a wait for the world outside is real time, and decides nothing"
    )]
    pub fn after(wait: Duration) -> Self {
        // Longer than anyone lives, where the sum does not fit.
        let now = Instant::now();
        Self(now.checked_add(wait).unwrap_or(now + Duration::from_secs(1 << 32)))
    }

    /// Returns how long is left, zero once it is over.
    #[expect(clippy::disallowed_methods, reason = "see `after`")]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Returns whether it is over.
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
