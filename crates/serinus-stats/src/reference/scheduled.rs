//! Group-sequential boundaries: for looks scheduled beforehand and a known final sample size.
//!
//! Sources: Lan and `DeMets` 1983 (spending), Armitage, `McPherson` and Rowe 1969 (recursion). Normal statistics: never for rare
//! events.

use crate::quadrature;
use crate::reference::mixture::Tails;
use crate::special::{bisect, normal_isf, normal_pdf, normal_sf};

/// How the error probability is spent over information time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spending {
    /// Like O'Brien and Fleming: hardly any at the start.
    ObrienFleming,
    /// Like Pocock: nearly evenly.
    Pocock,
    /// `alpha t^phi`.
    Power {
        /// The exponent.
        phi: f64,
    },
}

impl Spending {
    /// Returns what one side has spent at information time `t`, of `alpha` in all.
    pub fn spent(self, alpha: f64, t: f64) -> f64 {
        match self {
            Self::ObrienFleming => 2.0 * normal_sf(normal_isf(0.5 * alpha) / t.sqrt()),
            Self::Pocock => alpha * ((std::f64::consts::E - 1.0) * t).ln_1p(),
            Self::Power { phi } => alpha * t.powf(phi),
        }
    }
}

/// Panels of sixteen nodes over which the statistic's density is kept.
const PANELS: u32 = 80;
/// The cutoff of a side without a boundary, in standard deviations.
const FAR: f64 = 8.0;

/// Returns the boundary of z at each information time (ascending, in (0, 1]); two-sided spends `alpha / 2` on each side.
pub fn bounds(times: &[f64], alpha: f64, spending: Spending, tails: Tails) -> Vec<f64> {
    let side_alpha = match tails {
        Tails::One => alpha,
        Tails::Two => 0.5 * alpha,
    };
    // The density of Brownian motion that has not crossed: at each node its mass.
    let mut masses: Vec<(f64, f64)> = vec![(0.0, 1.0)];
    let (mut before, mut spent) = (0.0, 0.0);
    let mut out = Vec::with_capacity(times.len());
    for t in times {
        let (root, step) = (t.sqrt(), (t - before).sqrt());
        let target = spending.spent(side_alpha, *t) - spent;
        let crossing = |z: f64| {
            masses.iter().map(|(x, mass)| mass * normal_sf((z * root - x) / step)).sum::<f64>()
        };
        let z = bisect(-FAR, 2.0 * FAR, |z| crossing(z) > target);
        out.push(z);
        let low = match tails {
            Tails::One => -FAR,
            Tails::Two => -z,
        };
        let mut next = Vec::with_capacity(usize::try_from(PANELS).map_or(0, |t| t * 16));
        quadrature::nodes(low * root, z * root, PANELS, |y, weight| {
            let density: f64 =
                masses.iter().map(|(x, mass)| mass * normal_pdf((y - x) / step)).sum();
            next.push((y, weight * density / step));
        });
        masses = next;
        before = *t;
        spent += target;
    }
    out
}
