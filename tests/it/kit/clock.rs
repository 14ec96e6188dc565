//! Real time for tests against real processes: deadlines of waits and timestamps of records.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time at which a test stops waiting.
#[derive(Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    #[expect(
        clippy::disallowed_methods,
        reason = "processes outside run by the real clock, and a test must not wait forever"
    )]
    pub fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    #[expect(clippy::disallowed_methods, reason = "see `after`")]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    #[expect(clippy::disallowed_methods, reason = "see `after`")]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Blocks until then. For tests in which passing time is part of the scenario.
    pub fn pass(self) {
        while !self.is_over() {
            std::thread::park_timeout(self.left());
        }
    }
}

/// Milliseconds since 1970, the unit of record timestamps.
#[expect(clippy::disallowed_methods, reason = "what a producer outside stamps on its records")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("milliseconds fit for 292 million years")
}

/// Measures elapsed time.
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a measurement reads the real clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    pub fn per_second(&self, count: usize) -> f64 {
        count as f64 / self.0.elapsed().as_secs_f64()
    }
}
