//! Asking an instance to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::kafka::process::wait::Deadline;

/// A request to stop, shared by all threads of an instance.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// How often a wait looks up: a signal handler can only set a flag.
    const LOOK_EVERY: Duration = Duration::from_millis(50);

    /// Asks everyone who holds it to finish and stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether someone asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until someone asks, but not longer than this; returns whether someone did.
    pub fn wait(&self, wait: Duration) -> bool {
        let deadline = Deadline::after(wait);
        while !self.is_requested() && !deadline.is_over() {
            thread::park_timeout(deadline.left().min(Self::LOOK_EVERY));
        }
        self.is_requested()
    }

    /// Returns the flag itself, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
