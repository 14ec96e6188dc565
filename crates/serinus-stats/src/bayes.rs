//! Bayesian summaries for reports, not as a stopping rule (peeking at `P(B>A) > .95` ships a null in a third of cases).

use crate::beta::{beta_cdf, beta_pdf, beta_sf};
use crate::quadrature::integral;
use crate::special::{normal_cdf, normal_pdf, normal_sf};
use crate::two_sample::Rate;

/// The comparison of two posteriors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The probability that the candidate's value is greater.
    pub greater: f64,
    /// The expected loss of choosing the candidate, `E max(p0 - p1, 0)`.
    pub loss_candidate: f64,
    /// The expected loss of choosing the stable version.
    pub loss_stable: f64,
}

/// Compares two rates with independent `Beta(a, b)` priors.
pub fn beta_comparison(treated: Rate, control: Rate, a: f64, b: f64) -> Comparison {
    let posterior =
        |rate: Rate| (a + rate.events as f64, b + rate.n.saturating_sub(rate.events) as f64);
    let ((a1, b1), (a0, b0)) = (posterior(treated), posterior(control));
    let cuts = cuts(&[(a1, b1), (a0, b0)]);
    let over = |f: &dyn Fn(f64) -> f64| -> f64 {
        cuts.windows(2).map(|c| integral(c[0], c[1], 2, f)).sum()
    };
    Comparison {
        greater: chance_greater((a1, b1), (a0, b0), &cuts),
        loss_candidate: over(&|x| beta_cdf(a1, b1, x) * beta_sf(a0, b0, x)),
        loss_stable: over(&|x| beta_cdf(a0, b0, x) * beta_sf(a1, b1, x)),
    }
}

/// `P(p1 > p0)`. A density that is infinite at an end, as without events under a prior of Jeffreys, is level in a power of the
/// distance to that end.
fn chance_greater((a1, b1): (f64, f64), (a0, b0): (f64, f64), cuts: &[f64]) -> f64 {
    let density = |x: f64| beta_pdf(a1, b1, x) * beta_cdf(a0, b0, x);
    let of_panel = |from: f64, to: f64, power: f64, place: &dyn Fn(f64) -> f64| {
        integral(from.powf(power), to.powf(power), 2, |t| {
            let distance = t.powf(power.recip());
            density(place(distance)) * distance / (t * power)
        })
    };
    cuts.windows(2)
        .map(|c| {
            if c[1] <= 0.5 {
                of_panel(c[0], c[1], a1.min(1.0), &|x| x)
            } else {
                of_panel(1.0 - c[1], 1.0 - c[0], b1.min(1.0), &|y| 1.0 - y)
            }
        })
        .sum()
}

/// Splits [0, 1] into small intervals where either distribution has its mass.
fn cuts(laws: &[(f64, f64)]) -> Vec<f64> {
    let mut cuts = vec![0.0, 0.5, 1.0];
    for (a, b) in laws {
        let total = a + b;
        let mean = a / total;
        let deviation = (mean * (1.0 - mean) / (total + 1.0)).sqrt();
        for step in
            [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0, 50.0]
        {
            cuts.extend([mean - step * deviation, mean + step * deviation]);
        }
    }
    cuts.retain(|c| (0.0..=1.0).contains(c));
    cuts.sort_by(f64::total_cmp);
    cuts
}

/// A normal posterior of a difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalPosterior {
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation.
    pub deviation: f64,
    /// The comparison of the two versions; larger values are better.
    pub comparison: Comparison,
}

/// Returns the posterior of a difference under a flat prior; without an error it is the difference itself.
pub fn flat_posterior(difference: f64, error: f64) -> NormalPosterior {
    if error == 0.0 && !difference.is_nan() {
        let greater = if difference == 0.0 { 0.5 } else { f64::from(difference > 0.0) };
        let comparison = Comparison {
            greater,
            loss_candidate: (-difference).max(0.0),
            loss_stable: difference.max(0.0),
        };
        return NormalPosterior { mean: difference, deviation: 0.0, comparison };
    }
    let z = difference / error;
    let comparison = Comparison {
        greater: normal_cdf(z),
        loss_candidate: error * normal_pdf(z) - difference * normal_sf(z),
        loss_stable: error * normal_pdf(z) + difference * normal_cdf(z),
    };
    NormalPosterior { mean: difference, deviation: error, comparison }
}

/// Returns the posterior of a difference under a normal prior.
pub fn normal_posterior(
    difference: f64,
    error: f64,
    prior_mean: f64,
    prior_variance: f64,
) -> NormalPosterior {
    // A mean without an error decides alone; if both have none, the data decide.
    if error == 0.0 {
        return flat_posterior(difference, 0.0);
    }
    if prior_variance == 0.0 {
        return flat_posterior(prior_mean, 0.0);
    }
    let (data, prior) = (1.0 / (error * error), 1.0 / prior_variance);
    let precision = data + prior;
    flat_posterior((data * difference + prior * prior_mean) / precision, precision.sqrt().recip())
}
