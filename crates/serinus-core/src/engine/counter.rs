//! The counters with their help texts. Labels are this closed set, never an id.

/// Everything that is dropped, orphaned, duplicated, late, shed or refused, by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// A request was routed.
    Requests,
    /// A request has no unit at the source that the spec names, so its id is the unit.
    UnitAbsent,
    /// A copy of a request was sent to its serving version.
    Forwarded,
    /// A shadow copy was sent.
    Shadowed,
    /// A shadow copy was not sent because too many cases were open.
    ShadowShed,
    /// A request was answered at once because the partition had too many open cases.
    OpenCasesFull,
    /// A version got no copy because its topic does not exist.
    VersionAbsent,
    /// The assigned version's answer was served.
    ServedOk,
    /// The stable version's answer was served for the candidate.
    ServedFallback,
    /// The default value was served.
    ServedDefault,
    /// An error was served.
    ServedError,
    /// An answer arrived after its deadline.
    AnswerLate,
    /// An answer arrived twice.
    AnswerDuplicate,
    /// An answer named an unknown case, or a version without a copy.
    AnswerUnknown,
    /// An answer was on another partition and was forwarded.
    AnswerMisdirected,
    /// An answer named a case of another model.
    AnswerForeign,
    /// A record could not be read and is on the dead-letter topic.
    Refused,
    /// A record exceeded the size limit; a failed answer was sent in its place.
    TooLarge,
    /// A command could not be read, and names no known model.
    CommandUnreadable,
    /// A label was joined.
    LabelJoined,
    /// A label arrived twice or with an older version.
    LabelDuplicate,
    /// A label arrived with a known version but another value.
    LabelContradiction,
    /// A label arrived after its case had matured.
    LabelLate,
    /// A label expired without a prediction.
    LabelOrphaned,
    /// A label of a shared topic expired without a prediction of this model.
    LabelUnclaimed,
    /// A prediction arrived twice.
    PredictionDuplicate,
    /// Two open cases had one request id.
    RequestIdDuplicate,
    /// A metric's value was outside its range and was clipped.
    ValueClipped,
    /// A metric could not be computed from the answer or the label.
    ValueMissing,
    /// A pending case or early label was dropped because of the limit.
    PendingEvicted,
    /// A prediction was accepted for the join.
    Predictions,
    /// The plan of a prediction's rollout did not arrive in time: it is joined without evidence.
    PredictionUnplanned,
    /// A joined row was written.
    AnalysisRows,
    /// A tick was judged.
    TicksJudged,
    /// An event was published.
    Changes,
    /// A command was refused.
    CommandRefused,
    /// A command arrived twice and ran once.
    CommandDuplicate,
    /// A partial was of a past rollout, or older than a known one.
    PartialStale,
    /// A lane snapshot was saved.
    LaneFileWritten,
    /// A lane snapshot could not be saved.
    LaneFileFailed,
    /// A lane was restored from its snapshot.
    LaneFileUsed,
    /// A lane's snapshot was unusable, and the lane was restored from the topics.
    LaneFileRefused,
}

impl Counter {
    /// Every counter, in the order above.
    // A new counter needs a variant, a line here, and its name and help text below.
    pub const ALL: [Self; 42] = [
        Self::Requests,
        Self::UnitAbsent,
        Self::Forwarded,
        Self::Shadowed,
        Self::ShadowShed,
        Self::OpenCasesFull,
        Self::VersionAbsent,
        Self::ServedOk,
        Self::ServedFallback,
        Self::ServedDefault,
        Self::ServedError,
        Self::AnswerLate,
        Self::AnswerDuplicate,
        Self::AnswerUnknown,
        Self::AnswerMisdirected,
        Self::AnswerForeign,
        Self::Refused,
        Self::TooLarge,
        Self::CommandUnreadable,
        Self::LabelJoined,
        Self::LabelDuplicate,
        Self::LabelContradiction,
        Self::LabelLate,
        Self::LabelOrphaned,
        Self::LabelUnclaimed,
        Self::PredictionDuplicate,
        Self::RequestIdDuplicate,
        Self::ValueClipped,
        Self::ValueMissing,
        Self::PendingEvicted,
        Self::Predictions,
        Self::PredictionUnplanned,
        Self::AnalysisRows,
        Self::TicksJudged,
        Self::Changes,
        Self::CommandRefused,
        Self::CommandDuplicate,
        Self::PartialStale,
        Self::LaneFileWritten,
        Self::LaneFileFailed,
        Self::LaneFileUsed,
        Self::LaneFileRefused,
    ];

    /// Returns its name in the metrics, and its help text.
    #[expect(clippy::too_many_lines, reason = "it is one straight list")]
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("requests", "requests routed"),
            Self::UnitAbsent => {
                ("unit_absent", "requests without a unit where the spec says that it stands")
            }
            Self::Forwarded => ("forwarded", "copies sent to serving versions"),
            Self::Shadowed => ("shadowed", "silent copies sent"),
            Self::ShadowShed => {
                ("shadow_shed", "silent copies not sent because too many cases were open")
            }
            Self::OpenCasesFull => {
                ("open_cases_full", "requests answered at once because all cases were taken")
            }
            Self::VersionAbsent => {
                ("version_absent", "copies not sent because the version's topic is not there")
            }
            Self::ServedOk => ("served_ok", "answers of the assigned version served"),
            Self::ServedFallback => {
                ("served_fallback", "answers of the stable version served for the candidate")
            }
            Self::ServedDefault => ("served_default", "default values served"),
            Self::ServedError => ("served_error", "errors served"),
            Self::AnswerLate => ("answer_late", "answers after their deadline"),
            Self::AnswerDuplicate => ("answer_duplicate", "answers that came twice"),
            Self::AnswerUnknown => {
                ("answer_unknown", "answers to a case or from a version never asked")
            }
            Self::AnswerMisdirected => {
                ("answer_misdirected", "answers passed on to their right partition")
            }
            Self::AnswerForeign => (
                "answer_foreign",
                "answers to cases of another model that came to this one's topic",
            ),
            Self::Refused => ("refused", "records sent to the dead-letter topic"),
            Self::TooLarge => (
                "too_large",
                "records that did not fit into one message, and were cut or sent to the dead-letter topic",
            ),
            Self::CommandUnreadable => {
                ("command_unreadable", "commands that cannot be read and name no known model")
            }
            Self::LabelJoined => ("label_joined", "labels joined with their predictions"),
            Self::LabelDuplicate => {
                ("label_duplicate", "labels that came twice or with an older version")
            }
            Self::LabelContradiction => {
                ("label_contradiction", "labels of a known version that have another value")
            }
            Self::LabelLate => ("label_late", "labels that came after maturity"),
            Self::LabelOrphaned => ("label_orphaned", "labels whose request was never seen"),
            Self::LabelUnclaimed => (
                "label_unclaimed",
                "labels of a topic shared by models whose request this model never saw",
            ),
            Self::PredictionDuplicate => ("prediction_duplicate", "predictions that came twice"),
            Self::RequestIdDuplicate => {
                ("request_id_duplicate", "cases that share their request id with another")
            }
            Self::ValueClipped => ("value_clipped", "metric values clipped to their range"),
            Self::ValueMissing => ("value_missing", "metric values that could not be computed"),
            Self::PendingEvicted => {
                ("pending_evicted", "pending cases or early labels let go at the bound")
            }
            Self::Predictions => ("predictions", "predictions taken in to be joined"),
            Self::PredictionUnplanned => {
                ("prediction_unplanned", "predictions whose rollout's plan did not come in time")
            }
            Self::AnalysisRows => ("analysis_rows", "joined rows written"),
            Self::TicksJudged => ("ticks_judged", "ticks judged"),
            Self::Changes => ("changes", "changes and refusals published"),
            Self::CommandRefused => ("command_refused", "commands refused"),
            Self::CommandDuplicate => {
                ("command_duplicate", "commands that came twice and were done once")
            }
            Self::PartialStale => {
                ("partial_stale", "sums of a rollout that is over, or older than what is known")
            }
            Self::LaneFileWritten => {
                ("lane_files_written", "analyst lanes saved in the data folder")
            }
            Self::LaneFileFailed => ("lane_files_failed", "analyst lanes that could not be saved"),
            Self::LaneFileUsed => ("lane_files_used", "analyst lanes restored from their files"),
            Self::LaneFileRefused => (
                "lane_files_refused",
                "files of analyst lanes that were damaged or stale, so that the topics were read instead",
            ),
        }
    }
}
