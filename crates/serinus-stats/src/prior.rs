//! The planning prior: eleven effects around the smallest one that matters, and their weights.

use crate::special::log_sum_exp;

/// The number of effects in a mixture.
pub const GRID: usize = 11;

/// The index of the smallest effect that matters in the grid.
pub const MIDDLE: usize = 4;

/// A sum for each effect of the grid: the log-capital of the bet that was planned for it.
pub type LogCapitals = [f64; GRID];

/// Effects and their weights, fixed before the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// The effects, ascending, all of the sign of the minimal detectable effect (positive).
    pub effects: [f64; GRID],
    /// The logs of their weights, which sum to one.
    pub log_weights: [f64; GRID],
}

impl Prior {
    /// Returns the grid `d_j = mde * 2^(j/2)`, `j = -4..=6`, with weights in proportion to `exp(-(d_j/mde)^2 / 2) d_j`.
    ///
    /// The shape was chosen by measurement among seven. The plan guarantees `mde > 0`; for zero or NaN no bet is
    /// placed and every mixture stays at `log E = 0`.
    pub fn planned(mde: f64) -> Self {
        let mut effects = [0.0; GRID];
        let mut log_weights = [0.0; GRID];
        let mut half_steps = -4.0;
        for (effect, log_weight) in effects.iter_mut().zip(&mut log_weights) {
            let ratio = f64::exp2(half_steps / 2.0);
            *effect = mde * ratio;
            *log_weight = ratio.ln() - 0.5 * ratio * ratio;
            half_steps += 1.0;
        }
        let total = log_sum_exp(&log_weights);
        for log_weight in &mut log_weights {
            *log_weight -= total;
        }
        Self { effects, log_weights }
    }

    /// Returns `ln sum_k w_k exp(L_k)`: the log of the mixture's capital.
    pub fn mixture(&self, log_capitals: &LogCapitals) -> f64 {
        let mut terms = self.log_weights;
        for (term, log_capital) in terms.iter_mut().zip(log_capitals) {
            *term += log_capital;
        }
        log_sum_exp(&terms)
    }
}
