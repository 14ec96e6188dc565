//! The share of labels that has arrived by an age: the chain ladder on the triangle of delays, which is censored on the right.
//!
//! Only for reports and for choosing the maturity; decisions read labels at a fixed age.

/// The result of the chain ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct Completeness {
    /// The development factor of each age from the second on; infinite if labels first arrive at it.
    pub factors: Vec<f64>,
    /// The share of labels that have arrived by each age; 1 at the last.
    pub arrived: Vec<f64>,
}

/// Computes `f_a = sum C_{c,a} / sum C_{c,a-1}` over the cohorts old enough, and `G(a) = prod_{j>a} 1/f_j`.
///
/// `triangle[cohort][age]` are labels that arrived at that age, absent if the cohort is not that old. A factor without any
/// label on either side is 1: no further labels are expected.
pub fn chain_ladder(triangle: &[Vec<Option<f64>>]) -> Completeness {
    let ages = triangle.iter().map(Vec::len).max().unwrap_or(0);
    let mut factors = Vec::with_capacity(ages.saturating_sub(1));
    for age in 1..ages {
        let (mut now, mut before) = (0.0, 0.0);
        for cohort in triangle {
            let known: Option<Vec<f64>> =
                cohort.get(..=age).and_then(|a| a.iter().copied().collect());
            if let Some(known) = known {
                now += known.iter().sum::<f64>();
                before += known[..age].iter().sum::<f64>();
            }
        }
        factors.push(if before > 0.0 {
            now / before
        } else if now > 0.0 {
            f64::INFINITY
        } else {
            1.0
        });
    }
    let mut arrived = vec![1.0; ages];
    for age in (1..ages).rev() {
        arrived[age - 1] = arrived[age] / factors[age - 1];
    }
    Completeness { factors, arrived }
}
