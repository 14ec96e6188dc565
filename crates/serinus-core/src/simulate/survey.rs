//! Runs many worlds with the same truth on all cores and collects their outcomes.

use std::num::NonZero;
use std::thread;

use crate::domain::time::Span;
use crate::simulate::nature::Nature;
use crate::simulate::world;
pub use crate::simulate::world::{Course, Ending, Outcome};

/// The outcomes of many worlds.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// The truth in them.
    pub name: String,
    /// The number of worlds.
    pub worlds: u64,
    /// All outcomes, in the order of their seeds.
    pub outcomes: Vec<Outcome>,
}

/// The worlds with certain endings, as a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The share of all worlds.
    pub rate: f64,
    /// Its standard error.
    pub error: f64,
}

/// Runs `worlds` and returns their outcomes. The result depends on the seed but not on the number of cores.
pub fn survey(course: &Course, nature: &Nature, worlds: u64, seed: u64) -> Survey {
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let seed_of = |number: u64| mixed(seed ^ mixed(number.wrapping_add(1)));
    let mut outcomes: Vec<(u64, Outcome)> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let mut outcomes = Vec::new();
                    let mut number = first;
                    while number < worlds {
                        outcomes.push((number, world::run(course, nature, seed_of(number))));
                        number += threads;
                    }
                    outcomes
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|h| match h.join() {
                Ok(outcomes) => outcomes,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    outcomes.sort_unstable_by_key(|(number, _)| *number);
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    Survey { name: nature.name.clone(), worlds, outcomes }
}

impl Survey {
    /// Returns the share of worlds that ended in one of these ways.
    pub fn part(&self, endings: &[Ending]) -> Part {
        let n = self.outcomes.iter().filter(|o| endings.contains(&o.ending)).count() as f64;
        let worlds = (self.worlds as f64).max(1.0);
        let rate = n / worlds;
        Part { rate, error: (rate * (1.0 - rate) / worlds).sqrt() }
    }

    /// Returns the number of requests after which this share of *all* worlds had one of these endings; `None` if fewer had.
    pub fn requests(&self, endings: &[Ending], share: f64) -> Option<u64> {
        self.quantile(endings, share, |s| s.requests)
    }

    /// Returns the time after which this share of all worlds had one of these endings; `None` if fewer had.
    pub fn after(&self, endings: &[Ending], share: f64) -> Option<Span> {
        self.quantile(endings, share, |s| s.after)
    }

    /// Returns the mean number of requests that candidates served.
    pub fn exposed(&self) -> f64 {
        let sum: f64 = self.outcomes.iter().map(|o| o.exposed as f64).sum();
        sum / (self.worlds as f64).max(1.0)
    }

    fn quantile<T: Ord + Copy>(
        &self,
        endings: &[Ending],
        share: f64,
        of: impl Fn(&Outcome) -> T,
    ) -> Option<T> {
        let mut values: Vec<T> =
            self.outcomes.iter().filter(|o| endings.contains(&o.ending)).map(of).collect();
        values.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count is a count"
        )]
        let rank = (share * self.worlds as f64).ceil().max(1.0) as usize;
        values.get(rank - 1).copied()
    }
}

/// `SplitMix64` (Steele, Lea and Flood 2014): adjacent seeds give unrelated worlds.
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
