//! The strata in which a candidate is compared with the stable version, and the mean over them.

use crate::domain::ids::Version;
use crate::evidence::bet_center::Centre;
use crate::evidence::bounds::{self, Sides, Whose};
use crate::evidence::design::{ContrastKey, Pairing, Part, Stratum};
use crate::evidence::sums::{Contrast, Scores};
use crate::inference::claims::Bars;
use crate::inference::input::AnalysisInput;
use crate::inference::planning;
use crate::inference::verdict::Estimate;
use crate::plan::metric::{Direction, Metric};
use crate::plan::metric_kind::Group;
use serinus_stats::asymp::{self, N_STAR, Tuning};
use serinus_stats::interval::Interval;
use serinus_stats::ipw_bet;
use serinus_stats::moments::{Moments, Summary};
use serinus_stats::paired_bet::PairedStratum;

/// Minimum number of values for a range of a mean.
pub(crate) const VALUES_MIN: f64 = 30.0;

/// One stratum of a metric that scores answers.
pub(crate) struct Compared<'a> {
    pub(crate) stratum: Stratum,
    pub(crate) pairing: Pairing,
    pub(crate) ours: Scores,
    pub(crate) theirs: Scores,
    pub(crate) contrast: Option<&'a Contrast>,
}

/// Returns the strata in which the two versions are compared.
pub(crate) fn compared<'a>(
    input: &AnalysisInput<'a>,
    metric: &Metric,
    candidate: &Version,
) -> Vec<Compared<'a>> {
    let parts = |stratum, version: &Version, parts: &[Part]| {
        let mut sum = Scores::default();
        for part in parts {
            if let Some(scores) = input.evidence.scored(stratum, version, *part, &metric.name) {
                sum.merge(scores);
            }
        }
        sum
    };
    input
        .compared(candidate)
        .into_iter()
        .map(|(stratum, pairing)| {
            // The two answers to one case are compared, regardless of which was served.
            let is_agreement = metric.kind.group() == Group::Agreement;
            let pairing = if is_agreement { Pairing::Paired } else { pairing };
            let wanted: &[Part] = match pairing {
                Pairing::Paired => &[Part::Chosen, Part::Copied],
                Pairing::Split { .. } | Pairing::Apart => &[Part::Chosen],
            };
            let key =
                ContrastKey { stratum, candidate: candidate.clone(), metric: metric.name.clone() };
            Compared {
                stratum,
                pairing,
                ours: parts(stratum, candidate, wanted),
                theirs: parts(stratum, input.stable, wanted),
                contrast: input.evidence.contrasts.get(&key),
            }
        })
        .collect()
}

impl Compared<'_> {
    /// Returns both arms as each side counts answers that cannot be scored: the candidate's, and the stable version's.
    pub(crate) fn arms(&self, metric: &Metric) -> Sides<(Summary, Summary)> {
        let arm = |scores: &Scores, whose| {
            let summary = scores.moments.summary();
            let lost = bounds::counted(metric, scores.lost).all();
            bounds::value(metric, whose).map(|w| bounds::with_more(summary, lost, w))
        };
        let (ours, theirs) = (&self.ours, &self.theirs);
        arm(ours, Whose::Candidates)
            .with(arm(theirs, Whose::Stables), |ours, theirs| (ours, theirs))
    }

    /// Returns the split cases of a binary metric, by the center of their bets.
    pub(crate) fn splits(
        &self,
        input: &AnalysisInput<'_>,
        metric: &Metric,
    ) -> Vec<Sides<ipw_bet::Stratum>> {
        let (Pairing::Split { rho }, Some(contrast)) = (self.pairing, self.contrast) else {
            return Vec::new();
        };
        let assumption = planning::assumption(input.design, metric, self.stratum.stage);
        let base = planning::planned_rate(assumption.centre);
        let stratum = |centre: Centre, counts| ipw_bet::Stratum {
            propensity: rho,
            base,
            centre: centre.rate(),
            counts,
        };
        contrast.split.iter().map(|(centre, c)| c.map(|i| stratum(*centre, i))).collect()
    }

    /// Returns the pairs of a binary metric.
    pub(crate) fn paired(
        &self,
        input: &AnalysisInput<'_>,
        metric: &Metric,
    ) -> Sides<PairedStratum> {
        let assumption = planning::assumption(input.design, metric, self.stratum.stage);
        let contrast = self.contrast.cloned().unwrap_or_default();
        contrast.lost_pairs.map(|lost| {
            let mut counts = contrast.pairs;
            counts.merge(&lost);
            PairedStratum { discordance: assumption.discordance, counts }
        })
    }
}

/// A mean over strata, each weighted by its information.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Average {
    sum: f64,
    squares: f64,
    pub(crate) weight: f64,
}

impl Average {
    /// Adds a stratum; one without a value or a variance is skipped.
    pub(crate) fn add(&mut self, value: f64, variance: f64, weight: f64) {
        if value.is_finite() && variance.is_finite() && weight.is_finite() && weight > 0.0 {
            self.sum += weight * value;
            self.squares += weight * weight * variance;
            self.weight += weight;
        }
    }

    /// Returns the same with its variance multiplied by this factor.
    pub(crate) fn inflated(self, inflation: f64) -> Self {
        Self { squares: self.squares * inflation, ..self }
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn error(&self) -> f64 {
        self.squares.sqrt() / self.weight
    }

    pub(crate) fn asymptotic(&self, n: f64) -> Option<asymp::Estimate> {
        Some(asymp::Estimate { n, difference: self.mean()?, error: self.error() })
    }

    pub(crate) fn interval(&self, n: f64, alpha: f64) -> Interval {
        match self.asymptotic(n) {
            Some(estimate) if n >= VALUES_MIN => asymp::interval(&estimate, tuning(alpha)),
            Some(_) | None => Interval::WHOLE,
        }
    }

    /// Returns the nulls that no claim rejects, each end at the level of its claims.
    pub(crate) fn unrejected(&self, n: f64, metric: &Metric, alpha: f64, bars: Bars) -> Interval {
        match self.asymptotic(n) {
            Some(estimate) if n >= VALUES_MIN => unrejected(&estimate, metric, alpha, bars),
            Some(_) | None => Interval::WHOLE,
        }
    }
}

/// Returns the nulls that an asymptotic e-process does not reject: for harm at its bar, for the candidate at that of a promotion.
pub(crate) fn unrejected(
    estimate: &asymp::Estimate,
    metric: &Metric,
    alpha: f64,
    bars: Bars,
) -> Interval {
    let reach = |bar| asymp::reach_one_sided(estimate, tuning(alpha), bar);
    let (harm, promotion) = (reach(bars.harm), reach(bars.promotion));
    match metric.direction {
        Direction::Lower => {
            Interval { low: estimate.difference - harm, high: estimate.difference + promotion }
        }
        Direction::Higher => {
            Interval { low: estimate.difference - promotion, high: estimate.difference + harm }
        }
    }
}

/// Returns how the boundary of an asymptotic statement is tuned.
pub(crate) fn tuning(alpha: f64) -> Tuning {
    Tuning { alpha, n_star: N_STAR }
}

/// Returns an estimate with its range; unbounded ends are `None`.
pub(crate) fn with_interval(value: f64, interval: Interval, n: u64) -> Estimate {
    let bound = |f: f64| f.is_finite().then_some(f);
    Estimate { value, low: bound(interval.low), high: bound(interval.high), n }
}

/// The sum of zeros and ones, which is how many ones there were.
pub(crate) fn events(moments: &Moments) -> u64 {
    let summary: Summary = moments.summary();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of events is a small whole number"
    )]
    let events = (summary.mean * summary.n).round().max(0.0) as u64;
    events.min(moments.n)
}
