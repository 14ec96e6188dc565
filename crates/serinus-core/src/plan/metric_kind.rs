//! The metric kinds, in one table (`MetricKind::traits`): what each needs, how its evidence is kept, and its defaults.
//!
//! A new kind is one variant, one row of the table, and its score in `engine/analyst/score.rs`.

use schemars::JsonSchema;
use serde::Deserialize;

/// The base of rare events (`response_error`, `timeout`) where the spec gives none.
pub const RARE_BASE: f64 = 0.001;

/// The effect to plan for in the rate of a rare event whose spec has no margin, `mde` or base: half a percentage point.
const RARE_EFFECT: f64 = 0.005;

/// The largest log loss of one case in nats: probabilities are clipped to e^-16.
const LOG_LOSS_MAX: f64 = 16.0;

/// What is computed for each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MetricKindWord")]
pub enum MetricKind {
    /// 1 where the predicted class is the labelled one.
    Accuracy,
    /// 1 where it is not.
    ErrorRate,
    /// Minus the log of the probability given to what happened.
    LogLoss,
    /// The squared distance of the probability from what happened.
    Brier,
    /// The squared distance of a number from the labelled one.
    SquaredError,
    /// The distance of a number from the labelled one.
    AbsoluteError,
    /// A number out of the label or the answer.
    Value,
    /// Of the cases called positive, the share that are.
    Precision,
    /// Of the positive cases, the share called so.
    Recall,
    /// The harmonic mean of the two.
    F1,
    /// The chance that a positive case scores above a negative one.
    Auc,
    /// 1 where the version failed to answer, or did not in time.
    ResponseError,
    /// 1 where the answer did not come in time.
    Timeout,
    /// How long the answer took.
    Latency,
    /// 1 where the candidate's answer differs from the stable version's.
    Disagreement,
}

/// How a metric's evidence is kept and tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// One bit a case: counts, tested by fixed bets on four (or, paired, three) outcomes.
    Binary,
    /// A number in a fixed range: log capitals.
    Bounded,
    /// Scores by class in fixed bins: an asymptotic confidence sequence of the area under the curve.
    Ranking,
    /// Durations in a sketch: exceedance of frozen thresholds.
    Duration,
    /// Counts of a two-by-two table: an asymptotic confidence sequence of a share in it.
    Confusion,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "DirectionWord")]
pub enum Direction {
    /// Lower is better.
    Lower,
    /// Higher is better.
    Higher,
}

/// What a kind measures. Code that differs by kind matches on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A mean over labelled cases.
    Labelled(Labelled),
    /// A share in the two-by-two table of labelled cases.
    Table(Cells),
    /// The area under the curve of labelled cases.
    Ranking,
    /// Whether a version answered.
    Response(Response),
    /// How long an answer took.
    Latency,
    /// Whether two answers to one request agree.
    Agreement,
}

/// Means over labelled cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// See [`MetricKind::Accuracy`].
    Accuracy,
    /// See [`MetricKind::ErrorRate`].
    ErrorRate,
    /// See [`MetricKind::LogLoss`].
    LogLoss,
    /// See [`MetricKind::Brier`].
    Brier,
    /// See [`MetricKind::SquaredError`].
    SquaredError,
    /// See [`MetricKind::AbsoluteError`].
    AbsoluteError,
    /// See [`MetricKind::Value`].
    Value,
}

/// Shares in a two-by-two table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// See [`MetricKind::Precision`].
    Precision,
    /// See [`MetricKind::Recall`].
    Recall,
    /// See [`MetricKind::F1`].
    F1,
}

/// What can go wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// See [`MetricKind::ResponseError`].
    Error,
    /// See [`MetricKind::Timeout`].
    Timeout,
}

/// What a label must be for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelForm {
    /// A class, which a score meets by a threshold.
    Class,
    /// An outcome: 0, 1 or a probability.
    Outcome,
    /// A number.
    Number,
    /// The kind uses no label.
    None,
}

/// The base that bets are planned with if the spec has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base {
    /// This value.
    Of(f64),
    /// The middle of the range.
    Middle,
}

/// The effect to plan for if the spec has neither `mde` nor a margin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// A tenth of the base, or a hundredth of the range.
    TenthOfBase,
    /// Half of the base.
    HalfOfBase,
    /// Half of the base of the spec, or this.
    HalfOfSpecBaseOr(f64),
    /// This.
    Of(f64),
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traits {
    /// The word in specs and records.
    pub word: &'static str,
    /// What it measures.
    pub group: Group,
    /// How its evidence is kept and tested.
    pub shape: Shape,
    /// What its label must be.
    pub label: LabelForm,
    /// Which way is better; `None` if the spec must say.
    pub direction: Option<Direction>,
    /// The range of its values; `None` if the spec must say.
    pub range: Option<(f64, f64)>,
    /// The default base.
    pub base: Base,
    /// The default effect.
    pub effect: Effect,
}

impl MetricKind {
    /// The table. Lower is better and values are in [0, 1] unless a row says otherwise.
    pub const fn traits(self) -> Traits {
        match self {
            Self::Accuracy => labelled("accuracy", Labelled::Accuracy).class().higher().base(0.9),
            Self::ErrorRate => labelled("error_rate", Labelled::ErrorRate)
                .class()
                .base(0.1)
                .effect(Effect::HalfOfBase),
            Self::LogLoss => {
                labelled("log_loss", Labelled::LogLoss).range(0.0, LOG_LOSS_MAX).base(0.4)
            }
            Self::Brier => labelled("brier", Labelled::Brier).base(0.15),
            Self::SquaredError => labelled("squared_error", Labelled::SquaredError).number(),
            Self::AbsoluteError => labelled("absolute_error", Labelled::AbsoluteError).number(),
            Self::Value => labelled("value", Labelled::Value).number().either_direction(),
            Self::Precision => table("precision", Cells::Precision),
            Self::Recall => table("recall", Cells::Recall),
            Self::F1 => table("f1", Cells::F1),
            Self::Auc => row("auc", Group::Ranking, Shape::Ranking).outcome().higher().base(0.75),
            Self::ResponseError => response("response_error", Response::Error),
            Self::Timeout => response("timeout", Response::Timeout),
            Self::Latency => row("latency", Group::Latency, Shape::Duration)
                .range(0.0, f64::INFINITY)
                .base(100.0)
                .effect(Effect::Of(0.1)),
            Self::Disagreement => row("disagreement", Group::Agreement, Shape::Binary).base(0.05),
        }
    }

    /// Returns what it measures.
    pub fn group(self) -> Group {
        self.traits().group
    }

    /// Returns how its evidence is kept.
    pub fn shape(self) -> Shape {
        self.traits().shape
    }

    /// Returns whether it usually waits for a label.
    pub fn needs_label(self) -> bool {
        self.traits().label != LabelForm::None
    }

    /// Returns the word in specs and records.
    pub fn word(self) -> &'static str {
        self.traits().word
    }
}

const fn row(word: &'static str, group: Group, shape: Shape) -> Traits {
    Traits {
        word,
        group,
        shape,
        label: LabelForm::None,
        direction: Some(Direction::Lower),
        range: Some((0.0, 1.0)),
        base: Base::Middle,
        effect: Effect::TenthOfBase,
    }
}

const fn labelled(word: &'static str, of: Labelled) -> Traits {
    row(word, Group::Labelled(of), Shape::Bounded).outcome()
}

const fn table(word: &'static str, of: Cells) -> Traits {
    row(word, Group::Table(of), Shape::Confusion).class().higher().base(0.8)
}

const fn response(word: &'static str, of: Response) -> Traits {
    row(word, Group::Response(of), Shape::Binary)
        .base(RARE_BASE)
        .effect(Effect::HalfOfSpecBaseOr(RARE_EFFECT))
}

impl Traits {
    /// The label is a class; a mean over classes is a share of cases.
    const fn class(self) -> Self {
        let shape = match self.shape {
            Shape::Bounded => Shape::Binary,
            shape @ (Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion) => shape,
        };
        Self { label: LabelForm::Class, shape, ..self }
    }

    const fn outcome(self) -> Self {
        Self { label: LabelForm::Outcome, ..self }
    }

    /// The label is a number, whose range the spec must give.
    const fn number(self) -> Self {
        Self { label: LabelForm::Number, range: None, ..self }
    }

    const fn higher(self) -> Self {
        Self { direction: Some(Direction::Higher), ..self }
    }

    const fn either_direction(self) -> Self {
        Self { direction: None, ..self }
    }

    const fn range(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    const fn base(self, base: f64) -> Self {
        Self { base: Base::Of(base), ..self }
    }

    const fn effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

impl Direction {
    /// Returns +1 where a higher value is worse, else -1: differences times this are harm.
    pub fn harm_sign(self) -> f64 {
        match self {
            Self::Lower => 1.0,
            Self::Higher => -1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_as_it_is_read() {
        let schema = serde_json::to_value(schemars::schema_for!(MetricKind)).expect("JSON");
        let kinds = schema["oneOf"].as_array().expect("one schema per kind");
        assert!(!kinds.is_empty());
        for kind in kinds {
            let word = &kind["const"];
            let kind: MetricKind = serde_json::from_value(word.clone()).expect("a kind");
            assert_eq!(word, kind.word());
        }
    }
}
