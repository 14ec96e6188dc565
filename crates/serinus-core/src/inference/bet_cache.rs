//! Bets planned once: planning one costs thousands of evaluations, a look at it a few multiplications.

use std::cell::RefCell;

use hashbrown::HashMap;

use serinus_stats::ipw_bet;
use serinus_stats::paired_bet::PairedDesign;
use serinus_stats::prior::Prior;
use serinus_stats::side::{Null, Side};

/// Maximum number of designs of each kind: far more than a rollout has. Beyond it, all are planned again.
const DESIGNS_MAX: usize = 4096;

/// Designs by what they were planned from. They are pure functions of that: a cache changes no number.
#[derive(Clone, Debug, Default)]
pub struct BetCache {
    split: RefCell<HashMap<[u64; 6], ipw_bet::Design>>,
    paired: RefCell<HashMap<[u64; 4], PairedDesign>>,
}

impl BetCache {
    /// Returns the bets on cases that are answered by one arm each.
    pub fn split(&self, stratum: &ipw_bet::Stratum, null: Null, prior: &Prior) -> ipw_bet::Design {
        let ipw_bet::Stratum { propensity, base, centre, .. } = *stratum;
        let key = [propensity, base, centre, null.at, prior.effects[0]].map(f64::to_bits);
        let key = [key[0], key[1], key[2], key[3], key[4], side(null.side)];
        let mut kept = self.split.borrow_mut();
        if kept.len() >= DESIGNS_MAX {
            kept.clear();
        }
        *kept.entry(key).or_insert_with(|| stratum.design(null, prior))
    }

    /// Returns the bets on cases that both versions answered.
    pub fn paired(&self, discordance: f64, null: Null, prior: &Prior) -> PairedDesign {
        let key = [discordance, null.at, prior.effects[0]].map(f64::to_bits);
        let key = [key[0], key[1], key[2], side(null.side)];
        let mut kept = self.paired.borrow_mut();
        if kept.len() >= DESIGNS_MAX {
            kept.clear();
        }
        *kept.entry(key).or_insert_with(|| PairedDesign::new(discordance, null, prior))
    }
}

fn side(side: Side) -> u64 {
    match side {
        Side::Greater => 0,
        Side::Less => 1,
    }
}
