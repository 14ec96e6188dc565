//! A request to stop, shared by all threads of an instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::kafka::process::wait::Deadline;

/// A flag that makes every thread stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// Interval at which a wait checks the flag: a signal handler can only set it.
    const CHECK_EVERY: Duration = Duration::from_millis(50);

    /// Asks every holder to finish and stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits for a request for at most `wait`. Returns whether there was one.
    pub fn wait(&self, wait: Duration) -> bool {
        let deadline = Deadline::after(wait);
        while !self.is_requested() && !deadline.is_over() {
            thread::park_timeout(deadline.left().min(Self::CHECK_EVERY));
        }
        self.is_requested()
    }

    /// Returns the flag itself, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
