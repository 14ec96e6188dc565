//! The bet that grows fastest: Kelly's fraction for a finite set of outcomes.

/// Maximum share of the capital that one outcome may cost, so that no single outcome ruins the bet.
pub const STAKE_MAX: f64 = 0.99;

/// Returns the greatest bet that the worst outcome allows, `0.99 / max(-x)`.
///
/// If nothing can be lost, the null is impossible and the bet is merely large.
pub fn bet_max(outcomes: &[f64]) -> f64 {
    let worst = outcomes.iter().fold(0.0, |worst: f64, x| worst.max(-x));
    STAKE_MAX / worst.max(1e-9)
}

/// Returns the `lambda` in `[0, 0.99 / max(-x)]` that maximizes `sum p ln(1 + lambda x)`.
///
/// The derivative `sum p x / (1 + lambda x)` falls in `lambda`, so its zero is found by bisection to the last bit. If there is no
/// edge (derivative at 0 not positive, or NaN), the bet is 0.
pub fn fraction(probabilities: &[f64], outcomes: &[f64]) -> f64 {
    let slope = |lambda: f64| -> f64 {
        probabilities.iter().zip(outcomes).map(|(p, x)| p * x / (1.0 + lambda * x)).sum()
    };
    let high = bet_max(outcomes);
    let edge = slope(0.0);
    if edge.is_nan() || edge <= 0.0 || !high.is_finite() {
        return 0.0;
    }
    if slope(high) >= 0.0 {
        return high;
    }
    let (mut low, mut high) = (0.0, high);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if slope(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
