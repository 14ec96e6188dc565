//! The private records of the journals: the inputs and the time of each turn of a lane and each step of a judge, for replay.

use serde::{Deserialize, Serialize};

use crate::wire::checkpoint::CheckpointRecord;
use crate::wire::codec::{Record, read, write};
use crate::wire::malformed::Malformed;
use serinus_core::domain::ids::Revision;
use serinus_core::domain::time::Timestamp;

/// One turn of a serving lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingTurn {
    /// Counts the lane's turns.
    pub turn: u64,
    /// The reading of the clock.
    pub now: i64,
    /// The routing revision that routed the turn's requests.
    pub revision: u64,
    /// The next offset of the requests after the turn.
    pub requests: i64,
    /// The next offset of the answers after the turn.
    pub responses: i64,
    /// How many cases were open before the turn.
    pub open: usize,
    /// A hash of the newest request of the turn, if the turn had any. A replay compares it to detect that the topic was recreated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
}

impl Record for ServingTurn {
    const NAME: &'static str = "journal";
}

impl ServingTurn {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }
}

/// One turn of an analyst lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalystTurn {
    /// Counts the lane's turns.
    pub turn: u64,
    /// The reading of the clock.
    pub now: i64,
    /// The next offset of the predictions after the turn.
    pub predictions: i64,
    /// The next offset of the labels after the turn.
    pub labels: i64,
    /// The number of predictions and of labels that had not been read yet.
    pub lag: (u64, u64),
    /// The number of partitions of the label topic, if the lane was restored before the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<i32>,
    /// The number of the model's events that had been applied. Absent in journals of older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
    /// The watermarks at the start of the turn.
    pub checkpoint: CheckpointRecord,
}

impl Record for AnalystTurn {
    const NAME: &'static str = "analyst-journal";
}

impl AnalystTurn {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }
}

/// One step of a model's judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeStep {
    /// The model.
    pub model: String,
    /// The reading of the clock.
    pub now: i64,
    /// The input.
    pub told: JudgeInput,
}

/// The input of one step of a judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeInput {
    /// The judge starts, for the first time or after a restart.
    Open {
        /// How many partitions the prediction log has.
        partitions: i32,
        /// The sequence number of the model's newest event, or 0 before the first.
        sequence: u64,
    },
    /// A command.
    Command {
        /// Its partition in the command topic.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// The reason if its spec was refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// The partial sums of a lane.
    Partial {
        /// Their offset.
        offset: i64,
    },
    /// The idle timeout of the judge has passed.
    Silence,
}

impl Record for JudgeStep {
    const NAME: &'static str = "judge-journal";
}

impl JudgeStep {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }
}

/// The position at which a replay starts, stored in the metadata of the committed offset of a lane's first input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayStart {
    /// The first turn to replay.
    pub turn: u64,
    /// A lower bound of its time: the journal is searched from there.
    pub now: Timestamp,
    /// The next offset of the first input before that turn.
    pub first: i64,
    /// The next offset of the second input before that turn.
    pub second: i64,
    /// The first turn that this commit does not cover. All earlier turns are in the journal once the commit completes.
    pub next: u64,
    /// One more than the newest turn in which the lane published sums, or 0 if it never did. The sums are on their topic once the commit completes.
    pub published: u64,
    /// Whether turns are missing from the journal. The open cases must then be recovered from the lane's own output records.
    pub has_gap: bool,
}

/// Suffix of the metadata of a lane whose journal has a gap.
const GAP: &str = " gap";

impl ReplayStart {
    /// Writes the metadata that Kafka stores with an offset.
    pub fn to_metadata(self) -> String {
        let Self { turn, now: Timestamp(now), first, second, next, published, has_gap } = self;
        let gap = if has_gap { GAP } else { "" };
        format!("s2 {turn} {now} {first} {second} {next} {published}{gap}")
    }

    /// Reads the metadata of an offset; returns `None` for metadata of other programs.
    pub fn from_metadata(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        if parts.next()? != "s2" {
            return None;
        }
        let turn = parts.next()?.parse().ok()?;
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (now, first, second) = (Timestamp(number()?), number()?, number()?);
        let next = parts.next()?.parse().ok()?;
        let published = parts.next()?.parse().ok()?;
        let has_gap = parts.next() == Some(GAP.trim_start());
        Some(Self { turn, now, first, second, next, published, has_gap })
    }
}

/// The inputs that a judge reads again after a restart, stored in the metadata of the committed offset of its model's partials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgeStart {
    /// The newest judged tick.
    pub judged: Option<Timestamp>,
    /// The offsets of the partials that the judge has merged.
    pub partials: PartialOffsets,
}

/// Offsets of the partials that a judge has merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartialOffsets {
    /// These offsets, in ascending order.
    At(Vec<i64>),
    /// Some of the offsets from this one on; there are too many to list.
    From(i64),
}

impl PartialOffsets {
    /// Returns the first offset, if there is any.
    pub fn first(&self) -> Option<i64> {
        match self {
            Self::At(offsets) => offsets.first().copied(),
            Self::From(first) => Some(*first),
        }
    }
}

impl Default for PartialOffsets {
    fn default() -> Self {
        Self::At(Vec::new())
    }
}

impl JudgeStart {
    /// The most offsets that are listed: 150 offsets of up to 20 bytes fit into the 4,096 bytes of metadata that Kafka accepts by default.
    const LISTED_MAX: usize = 150;

    /// Lists these offsets, or only the first if there are more than `LISTED_MAX`.
    pub fn new(judged: Option<Timestamp>, offsets: impl IntoIterator<Item = i64>) -> Self {
        let mut offsets: Vec<i64> = offsets.into_iter().collect();
        offsets.sort_unstable();
        let partials = match offsets.first() {
            Some(first) if offsets.len() > Self::LISTED_MAX => PartialOffsets::From(*first),
            Some(_) | None => PartialOffsets::At(offsets),
        };
        Self { judged, partials }
    }

    /// Writes the metadata that Kafka stores with an offset.
    pub fn to_metadata(&self) -> String {
        let judged = self.judged.map_or_else(|| "-".to_owned(), |j| j.0.to_string());
        let partials = match &self.partials {
            PartialOffsets::At(offsets) => {
                offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
            }
            PartialOffsets::From(first) => format!("{first}+"),
        };
        format!("j1 {judged} {partials}")
    }

    /// Reads the metadata of an offset; returns `None` for metadata of other programs.
    pub fn from_metadata(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("j1 ")?.split(' ');
        let judged = match parts.next()? {
            "-" => None,
            tick => Some(Timestamp(tick.parse().ok()?)),
        };
        let partials = match parts.next()? {
            "" => PartialOffsets::default(),
            partials => match partials.strip_suffix('+') {
                Some(first) => PartialOffsets::From(first.parse().ok()?),
                None => PartialOffsets::At(
                    partials.split(',').map(|s| s.parse().ok()).collect::<Option<Vec<_>>>()?,
                ),
            },
        };
        parts.next().is_none().then_some(Self { judged, partials })
    }
}

#[cfg(test)]
mod tests {
    use super::{JudgeStart, PartialOffsets, ReplayStart};
    use serinus_core::domain::time::Timestamp;

    #[test]
    fn a_replays_start_is_read_back_from_an_offsets_metadata() {
        let start = ReplayStart {
            turn: 7,
            now: Timestamp(1_700_000_000_000),
            first: 12,
            second: 3,
            next: 9,
            published: 6,
            has_gap: false,
        };
        for start in [start, ReplayStart { has_gap: true, ..start }] {
            assert_eq!(ReplayStart::from_metadata(&start.to_metadata()), Some(start));
        }
        for foreign in ["", "s1", "s2 1 2 3 4", "s2 a 2 3 4 5 6", "s2 1 2 3 4 5"] {
            assert_eq!(ReplayStart::from_metadata(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn a_judges_start_is_read_back_from_an_offsets_metadata() {
        let check = |start: JudgeStart, expected: &str| {
            assert_eq!(start.to_metadata(), expected);
            assert_eq!(JudgeStart::from_metadata(expected), Some(start));
        };
        check(JudgeStart::default(), "j1 - ");
        check(JudgeStart::new(None, [7]), "j1 - 7");
        check(JudgeStart::new(Some(Timestamp(1_700)), [9, 3, 12]), "j1 1700 3,9,12");
        check(JudgeStart::new(Some(Timestamp(1_700)), 5..1_000), "j1 1700 5+");
        let most = JudgeStart::new(Some(Timestamp(i64::MAX)), (i64::MAX - 149)..=i64::MAX);
        assert!(matches!(most.partials, PartialOffsets::At(_)));
        assert!(most.to_metadata().len() < 4_096, "{}", most.to_metadata().len());
        for foreign in ["", "j1", "j1 -", "j2 - 7", "j1 a 7", "j1 - 7,", "j1 - 7 8", "j1 - +"] {
            assert_eq!(JudgeStart::from_metadata(foreign), None, "{foreign:?}");
        }
    }
}
