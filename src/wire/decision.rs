//! A decision in the state record with its supporting tests, so that labels that change later can contest it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::design::DesignRecord;
use crate::wire::malformed::Malformed;
use serinus_core::decision::basis::Support;
use serinus_core::domain::ids::StageIndex;
use serinus_core::engine::judge::command::Written;
use serinus_core::engine::judge::decision::Decision;
use serinus_core::engine::judge::event::Phase;
use serinus_core::inference::verdict::Question;
use serinus_core::plan::rollout::RolloutPlan;

/// A decision that newer labels can contest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Decision")]
pub struct DecisionRecord {
    /// The rollout's document.
    pub spec: Value,
    /// The design of its tests.
    pub design: DesignRecord,
    /// The stable version, which the candidates were compared with.
    pub stable: String,
    /// The stage, counted from 0.
    pub stage: u32,
    /// The decision.
    pub phase: Phase,
    /// The tests of labels that support it.
    pub supports: Vec<SupportRecord>,
    /// Whether an event has reported that newer labels contest it.
    pub contested: bool,
}

/// One test that supports a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Support")]
pub struct SupportRecord {
    /// The metric.
    pub metric: String,
    /// The candidate.
    pub candidate: String,
    /// `harm`, `non_inferior` or `superior`.
    pub question: String,
    /// The log of the e-value at the time of the decision.
    pub log_e: f64,
    /// The threshold.
    pub bar: f64,
}

impl DecisionRecord {
    /// Converts it to a decision; `rollout` is its document, already read.
    pub fn decision(&self, rollout: Written<RolloutPlan>) -> Result<Decision, Malformed> {
        let supports = self
            .supports
            .iter()
            .map(|s| {
                let question = Question::ALL.into_iter().find(|known| known.word() == s.question);
                let wrong = || {
                    Malformed::new("rollout-state", format!("unknown question `{}`", s.question))
                };
                Ok(Support {
                    metric: s.metric.as_str().into(),
                    candidate: s.candidate.as_str().into(),
                    question: question.ok_or_else(wrong)?,
                    log_e: s.log_e,
                    bar: s.bar,
                })
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Decision {
            rollout,
            design: (&self.design).into(),
            stable: self.stable.as_str().into(),
            stage: StageIndex(self.stage),
            phase: self.phase,
            supports,
            is_contested: self.contested,
        })
    }
}

impl From<&Decision> for DecisionRecord {
    fn from(decision: &Decision) -> Self {
        Self {
            spec: decision.rollout.document.clone(),
            design: (&decision.design).into(),
            stable: decision.stable.to_string(),
            stage: decision.stage.0,
            phase: decision.phase,
            supports: decision
                .supports
                .iter()
                .map(|s| SupportRecord {
                    metric: s.metric.to_string(),
                    candidate: s.candidate.to_string(),
                    question: s.question.word().to_owned(),
                    log_e: s.log_e,
                    bar: s.bar,
                })
                .collect(),
            contested: decision.is_contested,
        }
    }
}
