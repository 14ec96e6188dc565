//! One lane of a partition role: the two inputs of one partition, the machine between them, and a journal of its turns.

use std::borrow::Cow;

use crate::kafka::client::committed_offsets::Committed;
use crate::kafka::lanes::catalog::ModelView;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::wire::journal::ReplayStart;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::time::Timestamp;

/// A partition of a model.
pub type LaneKey = (ModelName, i32);

/// The interface of a lane for the loop of its role.
pub trait Lane {
    /// The effects of a turn, which the role writes.
    type Effect;

    /// Takes the backlog in and acts on what is due; returns whether there was anything to do.
    ///
    /// `is_behind` is whether records that existed at the start of the role are still unread.
    fn turn(
        &mut self,
        now: Timestamp,
        view: &ModelView,
        is_behind: bool,
        effects: &mut Vec<Self::Effect>,
        dead: &mut Vec<DeadLetter>,
    ) -> bool;

    /// Ends the turn just taken and returns its journal record.
    fn end_turn(&mut self) -> JournalRecord;

    /// Returns the next offsets of the first and the second input.
    fn offsets(&self) -> (i64, i64);

    /// Returns where a replay of the lane in its current state would start.
    fn replay_start(&self) -> ReplayStart;

    /// Returns when the lane must take a turn even if nothing arrives: the earliest deadline.
    fn next_wake(&self) -> Option<Timestamp>;

    /// Returns the topics of the first and the second input.
    fn inputs(&self, app: &str) -> [Cow<'_, str>; 2];

    /// Returns the topic of the journal.
    fn journal(app: &str, model: &ModelName) -> String;

    /// Returns the flag that says whether the lane's offsets must be part of the next commit.
    fn is_touched(&mut self) -> &mut bool;

    /// Returns how many cases the lane holds.
    fn cases(&self) -> usize;

    /// Returns the lane's contributions to the role's gauges.
    fn levels(&self) -> Vec<(&'static str, u64)>;
}

/// The journal record of one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// The time of the turn, which is also the timestamp of the record.
    pub now: Timestamp,
    /// The bytes.
    pub value: Vec<u8>,
}

/// The group's committed offsets of a lane's two inputs.
#[derive(Clone, Debug, Default)]
pub struct LaneOffsets {
    /// The first input: the next offset, with the start of a replay as metadata.
    pub first: Committed,
    /// The second input.
    pub second: Committed,
    /// Whether these are the newest committed offsets. If not, the journal shows what was committed after them.
    pub is_certain: bool,
}

/// Where a lane resumes, as far as the topics show it.
#[derive(Debug)]
pub enum Recall<T> {
    /// At this position.
    Known(T),
    /// Only an operator can decide; the text gives the reason and the options.
    Unknown(String),
}
