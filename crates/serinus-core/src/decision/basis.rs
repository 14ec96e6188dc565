//! The tests that support a decision, so that they can be repeated later.

use crate::domain::ids::{MetricName, Version};
use crate::inference::verdict::{Finding, InterimAnalysis, Proof, Question, Verdict};
use crate::plan::metric::MetricRole;
use crate::plan::rollout::PromoteWhen;

/// One test that supports a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// The metric.
    pub metric: MetricName,
    /// The candidate.
    pub candidate: Version,
    /// The question.
    pub question: Question,
    /// The log of the e-value at the time of the decision.
    pub log_e: f64,
    /// The threshold.
    pub bar: f64,
}

/// Returns the tests of labels that support a verdict: all that a promotion needed, or the harm that caused an abort.
pub fn of(analysis: &InterimAnalysis<'_>, verdict: &Verdict) -> Vec<Support> {
    let alpha = analysis.plan.decide.alpha;
    match verdict {
        Verdict::Promote { winner, .. } | Verdict::Conclude { winner, .. } => {
            let bar = (1.0 / alpha).ln();
            let needed = |f: &&Finding| {
                f.candidate == *winner && matches!(f.role, MetricRole::Goal | MetricRole::Guardrail)
            };
            let question = |f: &Finding| match (f.role, analysis.plan.decide.promote) {
                (MetricRole::Goal, PromoteWhen::Superior) => Question::Superior,
                (_, _) => Question::NonInferior,
            };
            supports(analysis.findings.iter().filter(needed), question, bar)
        }
        Verdict::Abort { .. } => {
            let aborting = analysis.plan.metrics.iter().filter(|m| m.aborts).count().max(1);
            let ways = (aborting * analysis.plan.candidates.len().max(1)) as f64;
            let harmful = |f: &&Finding| f.aborts && f.proof == Proof::Harmful;
            let bar = (ways / alpha).ln();
            supports(analysis.findings.iter().filter(harmful), |_| Question::Harm, bar)
        }
        Verdict::Hold { .. }
        | Verdict::Advance { .. }
        | Verdict::Drop { .. }
        | Verdict::Inconclusive { .. } => Vec::new(),
    }
}

fn supports<'a>(
    findings: impl Iterator<Item = &'a Finding>,
    question: impl Fn(&Finding) -> Question,
    bar: f64,
) -> Vec<Support> {
    findings
        .filter(|f| f.needs_label)
        .filter_map(|n| {
            let question = question(n);
            let log_e = question.of(n.log_e?);
            (log_e >= bar).then(|| Support {
                metric: n.metric.clone(),
                candidate: n.candidate.clone(),
                question,
                log_e: rounded(log_e),
                bar: rounded(bar),
            })
        })
        .collect()
}

/// Seven digits come back the same from any text form, and keep which of two numbers is greater.
fn rounded(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number)
}
