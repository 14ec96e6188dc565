//! An e-process on a stream of counts: a canary with 10 % of the requests, looked at after each one.
//!
//! Run it by `cargo run -p serinus-stats --example counts`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use serinus_stats::ipw_bet::{Counts, Stratum, interval, log_e};
use serinus_stats::prior::Prior;
use serinus_stats::side::Null;

/// The probability with which a request goes to the candidate.
const PROPENSITY: f64 = 0.1;
/// The chance of a false alarm, over all looks together.
const ALPHA: f64 = 0.05;
/// The acceptable rise of the error rate.
const MARGIN: f64 = 0.005;

fn main() {
    let prior = Prior::planned(0.01);
    let mut counts = Counts::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    // xorshift64: the same stream on every machine.
    let mut uniform = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    for request in 1..=100_000 {
        let is_candidate = uniform() < PROPENSITY;
        let error_rate = if is_candidate { 0.04 } else { 0.01 };
        counts.record(is_candidate, uniform() < error_rate);
        let strata = [Stratum { propensity: PROPENSITY, base: 0.01, centre: 0.01, counts }];
        // Valid at every sample size: reject once the e-value reaches 1 / alpha (Ville's inequality).
        if log_e(&strata, Null::greater(MARGIN), &prior) >= (1.0 / ALPHA).ln() {
            let difference = interval(&strata, &prior, ALPHA);
            println!(
                "after {request} requests: the candidate's error rate is more than 0.5 points higher"
            );
            println!(
                "difference in [{:+.4}, {:+.4}], from {counts:?}",
                difference.low, difference.high
            );
            return;
        }
    }
    println!("undecided: {counts:?}");
}
