//! Ratios and adjusted means with delta-method variances: clusters, CUPED, strata, precision and recall.

/// Sums over the units of one arm: a numerator `m` and a denominator `d` each (for example clicks and requests of a user).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RatioSums {
    /// The number of units.
    pub units: f64,
    /// Sum of numerators.
    pub m: f64,
    /// Sum of denominators.
    pub d: f64,
    /// Sum of squared numerators.
    pub mm: f64,
    /// Sum of squared denominators.
    pub dd: f64,
    /// Sum of products.
    pub md: f64,
}

/// An estimate and its variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WithVariance {
    /// The estimate; NaN if it does not exist.
    pub estimate: f64,
    /// Its variance; NaN if it is unknown.
    pub variance: f64,
}

/// Returns `Sm/Sd` and `(Vm - 2R Cmd + R^2 Vd) / (K dbar^2)` (delta method, Deng, Knoblich and Lu 2018): the variance that is
/// right if units have several requests each.
pub fn ratio_delta(sums: &RatioSums) -> WithVariance {
    let k = sums.units;
    let estimate = sums.m / sums.d;
    if k < 2.0 {
        return WithVariance { estimate, variance: f64::NAN };
    }
    let moment = |xy: f64, x: f64, y: f64| (xy - x * y / k) / (k - 1.0);
    let spread = moment(sums.mm, sums.m, sums.m) - 2.0 * estimate * moment(sums.md, sums.m, sums.d)
        + estimate * estimate * moment(sums.dd, sums.d, sums.d);
    let mean = sums.d / k;
    WithVariance { estimate, variance: spread.max(0.0) / (k * mean * mean) }
}

/// Sums over one arm of a metric `y` and a covariate `x` known before exposure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CovariateSums {
    /// The number of units.
    pub n: f64,
    /// Sum of the metric.
    pub y: f64,
    /// Sum of the covariate.
    pub x: f64,
    /// Sum of squared metrics.
    pub yy: f64,
    /// Sum of squared covariates.
    pub xx: f64,
    /// Sum of products.
    pub xy: f64,
}

impl CovariateSums {
    /// Returns the sums of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            n: self.n + other.n,
            y: self.y + other.y,
            x: self.x + other.x,
            yy: self.yy + other.yy,
            xx: self.xx + other.xx,
            xy: self.xy + other.xy,
        }
    }

    fn covariance(&self) -> f64 {
        (self.xy - self.x * self.y / self.n) / (self.n - 1.0)
    }

    fn variance_x(&self) -> f64 {
        (self.xx - self.x * self.x / self.n) / (self.n - 1.0)
    }

    fn variance_y(&self) -> f64 {
        (self.yy - self.y * self.y / self.n) / (self.n - 1.0)
    }
}

/// A difference of means adjusted by a covariate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cuped {
    /// The slope, from the sums of both arms; 0 where the covariate does not vary.
    pub theta: f64,
    /// The adjusted difference.
    pub difference: f64,
    /// Its standard error.
    pub error: f64,
    /// The difference without adjustment.
    pub unadjusted: f64,
}

/// Adjusts a difference by a covariate known before exposure (Deng, Xu, Kohavi and Walker 2013).
pub fn cuped(treated: &CovariateSums, control: &CovariateSums) -> Cuped {
    let pooled = treated.merge(*control);
    let spread = pooled.variance_x();
    let theta = if spread > 0.0 { pooled.covariance() / spread } else { 0.0 };
    let adjusted = |arm: &CovariateSums| (arm.y - theta * arm.x) / arm.n;
    // If the covariate explains the metric entirely, only a rounding error is left, which may be below 0.
    let variance = |arm: &CovariateSums| {
        let left =
            arm.variance_y() + theta * theta * arm.variance_x() - 2.0 * theta * arm.covariance();
        if left < 0.0 { 0.0 } else { left }
    };
    Cuped {
        theta,
        difference: adjusted(treated) - adjusted(control),
        error: (variance(treated) / treated.n + variance(control) / control.n).sqrt(),
        unadjusted: treated.y / treated.n - control.y / control.n,
    }
}

/// A difference of rates over strata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stratified {
    /// Mantel and Haenszel's risk difference; NaN without a stratum that has both arms.
    pub difference: f64,
    /// Its variance with each arm's own rate.
    pub variance: f64,
    /// Its variance with each stratum's pooled rate: that under no difference.
    pub variance_pooled: f64,
    /// The difference of pooled rates, which ramps bias (Simpson's paradox): for comparison only.
    pub naive: f64,
}

/// One stratum (a stage of a ramp).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateStratum {
    /// Observations of the candidate's arm.
    pub n1: u64,
    /// Its events.
    pub e1: u64,
    /// Observations of the stable arm.
    pub n0: u64,
    /// Its events.
    pub e0: u64,
}

/// Combines strata with weights `n1 n0 / (n1 + n0)`; strata with an empty arm have none.
pub fn stratified(strata: &[RateStratum]) -> Stratified {
    let (mut weights, mut difference, mut own, mut pooled) = (0.0, 0.0, 0.0, 0.0);
    for it in strata.iter().filter(|s| s.n1 > 0 && s.n0 > 0) {
        let (n1, n0) = (it.n1 as f64, it.n0 as f64);
        let (p1, p0) = (it.e1 as f64 / n1, it.e0 as f64 / n0);
        let p = (it.e1 + it.e0) as f64 / (n1 + n0);
        let weight = n1 * n0 / (n1 + n0);
        weights += weight;
        difference += weight * (p1 - p0);
        own += weight * weight * (p1 * (1.0 - p1) / n1 + p0 * (1.0 - p0) / n0);
        pooled += weight * weight * p * (1.0 - p) * (1.0 / n1 + 1.0 / n0);
    }
    let total = |of: fn(&RateStratum) -> u64| strata.iter().map(of).sum::<u64>() as f64;
    Stratified {
        difference: difference / weights,
        variance: own / (weights * weights),
        variance_pooled: pooled / (weights * weights),
        naive: total(|t| t.e1) / total(|t| t.n1) - total(|t| t.e0) / total(|t| t.n0),
    }
}

/// A table of predictions against labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// True positives.
    pub true_positive: u64,
    /// False positives.
    pub false_positive: u64,
    /// False negatives.
    pub false_negative: u64,
    /// True negatives.
    pub true_negative: u64,
}

impl Confusion {
    /// Counts one case.
    pub fn record(&mut self, predicted: bool, label: bool) {
        match (predicted, label) {
            (true, true) => self.true_positive += 1,
            (true, false) => self.false_positive += 1,
            (false, true) => self.false_negative += 1,
            (false, false) => self.true_negative += 1,
        }
    }

    /// Returns the precision.
    pub fn precision(&self) -> WithVariance {
        share(self.true_positive, self.true_positive + self.false_positive)
    }

    /// Returns the recall.
    pub fn recall(&self) -> WithVariance {
        share(self.true_positive, self.true_positive + self.false_negative)
    }

    /// Returns the accuracy.
    pub fn accuracy(&self) -> WithVariance {
        let right = self.true_positive + self.true_negative;
        share(right, right + self.false_positive + self.false_negative)
    }

    /// Returns `2 tp / (2 tp + fp + fn)` and its multinomial delta variance, `4 tp w (tp + w) / (2 tp + w)^4`, `w = fp + fn`.
    pub fn f1(&self) -> WithVariance {
        let (hit, wrong) =
            (self.true_positive as f64, (self.false_positive + self.false_negative) as f64);
        WithVariance {
            estimate: 2.0 * hit / (2.0 * hit + wrong),
            variance: f1_variance(hit, wrong),
        }
    }
}

/// Returns the multinomial delta variance of F1 from the true positives and the number of errors.
pub fn f1_variance(hit: f64, wrong: f64) -> f64 {
    4.0 * hit * wrong * (hit + wrong) / (2.0 * hit + wrong).powi(4)
}

fn share(part: u64, whole: u64) -> WithVariance {
    let p = part as f64 / whole as f64;
    WithVariance { estimate: p, variance: p * (1.0 - p) / whole as f64 }
}
