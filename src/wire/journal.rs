//! The private records of the journals: what each turn of a lane and each step of a judge read, and when, so that it can be done again.

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
    /// The one reading of the clock.
    pub now: i64,
    /// The routing revision that the turn's requests went by.
    pub revision: u64,
    /// The next offset of the requests after the turn.
    pub requests: i64,
    /// The next offset of the answers after the turn.
    pub responses: i64,
    /// How many cases were open before the turn.
    pub open: usize,
    /// A hash of the last request that was taken in, where the turn took any: it shows whether the topic is still the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
}

impl Record for ServingTurn {
    const NAME: &'static str = "journal";
}

impl ServingTurn {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Returns the clock's reading.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// Returns the routing revision.
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }
}

/// One turn of an analyst lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalystTurn {
    /// Counts the lane's turns.
    pub turn: u64,
    /// The one reading of the clock.
    pub now: i64,
    /// The next offset of the predictions after the turn.
    pub predictions: i64,
    /// The next offset of the labels after the turn.
    pub labels: i64,
    /// How many predictions and labels were not read yet.
    pub lag: (u64, u64),
    /// From how many partitions labels come, where the lane was restored before the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<i32>,
    /// How many of the model's events had been followed, in journals that say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
    /// The clocks when the turn began.
    pub checkpoint: CheckpointRecord,
}

impl Record for AnalystTurn {
    const NAME: &'static str = "analyst-journal";
}

impl AnalystTurn {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Returns the clock's reading.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }
}

/// One step of a model's judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeStep {
    /// The model.
    pub model: String,
    /// The one reading of the clock.
    pub now: i64,
    /// What the judge was told.
    pub told: JudgeInput,
}

/// What a judge was told in one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeInput {
    /// It begins, for the first time or after a restart.
    Open {
        /// How many partitions the prediction log has.
        partitions: i32,
        /// The number of the model's newest event, 0 before the first.
        sequence: u64,
    },
    /// A command.
    Command {
        /// The partition of the commands in which it stands.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Why its spec could not be taken in as things were, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// A lane's sums.
    Partial {
        /// Their offset.
        offset: i64,
    },
    /// That it has been silent for too long.
    Silence,
}

impl Record for JudgeStep {
    const NAME: &'static str = "judge-journal";
}

impl JudgeStep {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Returns the clock's reading.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }
}

/// Where a replay starts: kept in the metadata of the committed offset of a lane's first input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayStart {
    /// The first turn to do again.
    pub turn: u64,
    /// About when that was: the journal is searched from there.
    pub now: Timestamp,
    /// The next offset of the first input before that turn.
    pub first: i64,
    /// The next offset of the second input before that turn.
    pub second: i64,
    /// The first turn that was not committed with it: all before are in the journal, or will be at once.
    pub next: u64,
    /// One more than the last turn in which the lane published sums, 0 where it never did: they are on their topic, or will be at once.
    pub published: u64,
    /// Whether the turns from there on are not all in the journal, so that what is open is found in what the lane has written.
    pub has_gap: bool,
}

/// What stands at the end of the metadata of a lane whose journal has a gap.
const GAP: &str = " gap";

impl ReplayStart {
    /// Writes it as the text that Kafka keeps beside an offset.
    pub fn to_metadata(self) -> String {
        let Self { turn, now: Timestamp(now), first, second, next, published, has_gap } = self;
        let gap = if has_gap { GAP } else { "" };
        format!("s2 {turn} {now} {first} {second} {next} {published}{gap}")
    }

    /// Reads it; nothing where the text is not ours.
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

/// What a judge is told again after a restart: kept in the metadata of the committed offset of its model's sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgeStart {
    /// The newest tick that was judged.
    pub judged: Option<Timestamp>,
    /// Where the sums stand that it goes by.
    pub sums: Standings,
}

/// Offsets of the sums that a judge goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standings {
    /// These, ascending.
    At(Vec<i64>),
    /// Some of those from here on: there are too many to name.
    From(i64),
}

impl Standings {
    /// Returns the first offset, if there is any.
    pub fn first(&self) -> Option<i64> {
        match self {
            Self::At(offsets) => offsets.first().copied(),
            Self::From(first) => Some(*first),
        }
    }
}

impl Default for Standings {
    fn default() -> Self {
        Self::At(Vec::new())
    }
}

impl JudgeStart {
    /// Kafka takes 4,096 bytes of metadata unless it is told otherwise.
    const NAMED_MAX: usize = 150;

    /// Names these offsets, or the first where there are too many of them.
    pub fn new(judged: Option<Timestamp>, offsets: impl IntoIterator<Item = i64>) -> Self {
        let mut offsets: Vec<i64> = offsets.into_iter().collect();
        offsets.sort_unstable();
        let sums = match offsets.first() {
            Some(first) if offsets.len() > Self::NAMED_MAX => Standings::From(*first),
            Some(_) | None => Standings::At(offsets),
        };
        Self { judged, sums }
    }

    /// Writes it as the text that Kafka keeps beside an offset.
    pub fn to_metadata(&self) -> String {
        let judged = self.judged.map_or_else(|| "-".to_owned(), |j| j.0.to_string());
        let sums = match &self.sums {
            Standings::At(offsets) => {
                offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
            }
            Standings::From(first) => format!("{first}+"),
        };
        format!("j1 {judged} {sums}")
    }

    /// Reads it; nothing where the text is not ours.
    pub fn from_metadata(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("j1 ")?.split(' ');
        let judged = match parts.next()? {
            "-" => None,
            tick => Some(Timestamp(tick.parse().ok()?)),
        };
        let sums = match parts.next()? {
            "" => Standings::default(),
            sums => match sums.strip_suffix('+') {
                Some(first) => Standings::From(first.parse().ok()?),
                None => Standings::At(
                    sums.split(',').map(|s| s.parse().ok()).collect::<Option<Vec<_>>>()?,
                ),
            },
        };
        parts.next().is_none().then_some(Self { judged, sums })
    }
}

#[cfg(test)]
mod tests {
    use super::{JudgeStart, ReplayStart, Standings};
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
    fn what_a_judge_is_told_again_is_read_back_from_an_offsets_metadata() {
        let check = |start: JudgeStart, expected: &str| {
            assert_eq!(start.to_metadata(), expected);
            assert_eq!(JudgeStart::from_metadata(expected), Some(start));
        };
        check(JudgeStart::default(), "j1 - ");
        check(JudgeStart::new(None, [7]), "j1 - 7");
        check(JudgeStart::new(Some(Timestamp(1_700)), [9, 3, 12]), "j1 1700 3,9,12");
        check(JudgeStart::new(Some(Timestamp(1_700)), 5..1_000), "j1 1700 5+");
        let most = JudgeStart::new(Some(Timestamp(i64::MAX)), (i64::MAX - 149)..=i64::MAX);
        assert!(matches!(most.sums, Standings::At(_)));
        assert!(most.to_metadata().len() < 4_096, "{}", most.to_metadata().len());
        for foreign in ["", "j1", "j1 -", "j2 - 7", "j1 a 7", "j1 - 7,", "j1 - 7 8", "j1 - +"] {
            assert_eq!(JudgeStart::from_metadata(foreign), None, "{foreign:?}");
        }
    }
}
