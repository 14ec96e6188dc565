//! The file of an analyst lane: a copy of all that it knows between two turns, to go on from after a restart.
//!
//! It is a cache. Frame by frame, each with its length and its checksum: a head in JSON, then what is pending in blocks, in a compact
//! binary form ([postcard](https://postcard.jamesmunns.com)), and an end that says how much there was. Whatever is not as it was
//! written is told, and then the lane restores from the topics.

use std::io::{ErrorKind, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::checkpoint::CheckpointRecord;
use crate::wire::journal::{AnalystTurn, ReplayStart};
use crate::wire::malformed::Malformed;
use crate::wire::partial::PartialRecord;
use crate::wire::snapshot_entry::{EntryRecord, UnplannedRecord};
use serinus_core::domain::ids::{ModelName, RequestId};
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::lane::Analyst;
use serinus_core::engine::analyst::snapshot::{Saved, SavedBook};
use serinus_core::engine::partial::Inputs;
use serinus_core::join::entry::Entry;
use serinus_core::join::interner::Interner;

/// What the file begins with; another number for another form.
const MAGIC: &[u8; 16] = b"serinus lane 2\n\0";
/// How many request ids a block holds.
const BLOCK: usize = 1024;
/// No frame is longer: whoever says so is not one of ours.
const FRAME_MAX: u32 = 1 << 30;

/// Where a lane stood when it was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotHeader {
    /// The model.
    pub model: ModelName,
    /// The partition.
    pub partition: i32,
    /// The journal's record of the last turn that is in the file: it must be the same in the journal, or the file is not of this lane.
    pub last: AnalystTurn,
    /// One more than the last turn in which sums were published, 0 where none were.
    pub published: u64,
    /// Where a replay from the topics alone would start, by its turn.
    pub starts: Vec<ReplayStart>,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// It could not be read or written.
    #[error("{0}")]
    Io(std::io::Error),
    /// There is less of it than was written.
    #[error("it ends early")]
    Short,
    /// It is not such a file, or one of another build.
    #[error("it is no lane file of this build")]
    Foreign,
    /// A frame is not what was written.
    #[error("frame {0} is damaged")]
    Damaged(u64),
    /// What a frame says cannot be.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl From<std::io::Error> for SnapshotError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof { Self::Short } else { Self::Io(error) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct HeadRecord {
    model: String,
    partition: i32,
    last: AnalystTurn,
    published: u64,
    inputs: (i64, i64),
    lag: (u64, u64),
    checkpoint: CheckpointRecord,
    books: Vec<BookRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BookRecord {
    partial: PartialRecord,
    tick: Option<i64>,
    changed: bool,
    replay_turn: u64,
}

/// Where a replay would start, as numbers.
type StartRecord = (u64, i64, i64, i64, u64, u64);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EndRecord {
    entries: u64,
}

/// Writes a lane's file; returns how many bytes it has.
#[expect(
    clippy::missing_panics_doc,
    reason = "a record of texts and numbers can always be written"
)]
pub fn write(
    out: impl Write,
    place: &SnapshotHeader,
    lane: &Analyst,
) -> Result<u64, SnapshotError> {
    let mut out = FrameWriter { out, bytes: 0 };
    out.out.write_all(MAGIC)?;
    let saved = lane.save();
    let head = HeadRecord {
        model: place.model.to_string(),
        partition: place.partition,
        last: place.last.clone(),
        published: place.published,
        inputs: (saved.inputs.predictions, saved.inputs.labels),
        lag: saved.lag,
        checkpoint: CheckpointRecord::from(&saved.checkpoint),
        books: saved.books.iter().map(BookRecord::from).collect(),
    };
    out.frame(&serde_json::to_vec(&head).expect("our records have text keys"))?;
    let start = |r: &ReplayStart| (r.turn, r.now.0, r.first, r.second, r.next, r.published);
    out.record(&place.starts.iter().map(start).collect::<Vec<StartRecord>>())?;
    out.record(&saved.unplanned.iter().map(UnplannedRecord::from).collect::<Vec<_>>())?;
    let (mut block, mut entries) = (Vec::with_capacity(BLOCK), 0);
    for (id, entry) in lane.entries() {
        block.push(EntryRecord::of(id, entry));
        entries += 1;
        if block.len() == BLOCK {
            out.record(&block)?;
            block.clear();
        }
    }
    out.record(&block)?;
    // No block is empty but the last, so the end is told from them.
    out.record(&Vec::<EntryRecord<'_>>::new())?;
    out.record(&EndRecord { entries })?;
    out.out.flush()?;
    Ok(out.bytes + MAGIC.len() as u64)
}

/// A file that is being read: first where the lane stood, then what it knew.
pub struct SnapshotReader<R> {
    frames: FrameReader<R>,
    place: SnapshotHeader,
    saved: Saved,
    names: Interner,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads where the lane stood; what it knew only if that is asked for.
    pub fn open(input: R) -> Result<Self, SnapshotError> {
        let mut frames = FrameReader { input, read: 0 };
        let mut magic = [0; MAGIC.len()];
        frames.input.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(SnapshotError::Foreign);
        }
        let head = frames.frame()?;
        let head: HeadRecord = serde_json::from_slice(&head).map_err(|_| SnapshotError::Foreign)?;
        let starts: Vec<StartRecord> = frames.record()?;
        let frame = frames.frame()?;
        let unplanned: Vec<UnplannedRecord<'_>> = frames.parse(&frame)?;
        let mut names = Interner::default();
        let start = |(turn, now, first, second, next, published)| ReplayStart {
            turn,
            now: Timestamp(now),
            first,
            second,
            next,
            published,
            has_gap: false,
        };
        let place = SnapshotHeader {
            model: ModelName::new(&head.model),
            partition: head.partition,
            last: head.last,
            published: head.published,
            starts: starts.into_iter().map(start).collect(),
        };
        let (predictions, labels) = head.inputs;
        let saved = Saved {
            checkpoint: (&head.checkpoint).into(),
            inputs: Inputs { predictions, labels },
            lag: head.lag,
            books: head.books.iter().map(SavedBook::try_from).collect::<Result<_, _>>()?,
            unplanned: unplanned.into_iter().map(|u| u.into_unplanned(&mut names)).collect(),
        };
        Ok(Self { frames, place, saved, names })
    }

    /// Returns where the lane stood.
    pub fn place(&self) -> &SnapshotHeader {
        &self.place
    }

    /// Reads what the lane knew into one that knows its plans and nothing else.
    ///
    /// A lane into which a damaged file was read is of no use any more.
    pub fn read_into(mut self, lane: &mut Analyst) -> Result<SnapshotHeader, SnapshotError> {
        lane.take_saved(self.saved);
        let mut entries = 0;
        loop {
            let frame = self.frames.frame()?;
            let block: Vec<EntryRecord<'_>> = self.frames.parse(&frame)?;
            if block.is_empty() {
                break;
            }
            for it in block {
                let (id, entry): (RequestId, Entry) = it.into_entry(&mut self.names);
                lane.put_back(id, entry);
                entries += 1;
            }
        }
        let end: EndRecord = self.frames.record()?;
        if end != (EndRecord { entries }) {
            return Err(SnapshotError::Damaged(self.frames.read));
        }
        Ok(self.place)
    }
}

impl From<&SavedBook> for BookRecord {
    fn from(it: &SavedBook) -> Self {
        Self {
            partial: PartialRecord::from(&it.partial),
            tick: it.tick.map(|t| t.0),
            changed: it.is_changed,
            replay_turn: it.replay_turn,
        }
    }
}

impl TryFrom<&BookRecord> for SavedBook {
    type Error = Malformed;

    fn try_from(record: &BookRecord) -> Result<Self, Malformed> {
        Ok(Self {
            partial: record.partial.partial()?,
            tick: record.tick.map(Timestamp),
            is_changed: record.changed,
            replay_turn: record.replay_turn,
        })
    }
}

struct FrameWriter<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> FrameWriter<W> {
    fn frame(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let length = u32::try_from(bytes.len()).ok().filter(|l| *l <= FRAME_MAX);
        let length = length.ok_or_else(|| std::io::Error::other("a frame is too long"))?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&xxh3_64(bytes).to_le_bytes())?;
        self.out.write_all(bytes)?;
        self.bytes += 12 + u64::from(length);
        Ok(())
    }

    fn record<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<(), SnapshotError> {
        let bytes = postcard::to_stdvec(record).expect("our records have no custom serialisers");
        self.frame(&bytes)
    }
}

struct FrameReader<R> {
    input: R,
    read: u64,
}

impl<R: Read> FrameReader<R> {
    fn frame(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let (mut length, mut sum) = ([0; 4], [0; 8]);
        self.input.read_exact(&mut length)?;
        self.input.read_exact(&mut sum)?;
        let length = u32::from_le_bytes(length);
        if length > FRAME_MAX {
            return Err(SnapshotError::Damaged(self.read));
        }
        // Not by the length that it says, which may be damaged, but as far as there is something.
        let mut bytes = Vec::new();
        self.input.by_ref().take(u64::from(length)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != u64::from(length) {
            return Err(SnapshotError::Short);
        }
        if xxh3_64(&bytes) != u64::from_le_bytes(sum) {
            return Err(SnapshotError::Damaged(self.read));
        }
        self.read += 1;
        Ok(bytes)
    }

    fn parse<'a, T: Deserialize<'a>>(&self, frame: &'a [u8]) -> Result<T, SnapshotError> {
        postcard::from_bytes(frame).map_err(|_| SnapshotError::Damaged(self.read))
    }

    fn record<T: DeserializeOwned>(&mut self) -> Result<T, SnapshotError> {
        let frame = self.frame()?;
        postcard::from_bytes(&frame).map_err(|_| SnapshotError::Damaged(self.read))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{SnapshotError, SnapshotHeader, SnapshotReader, write};
    use crate::wire::checkpoint::CheckpointRecord;
    use crate::wire::journal::{AnalystTurn, ReplayStart};
    use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
    use serinus_core::domain::ids::{CaseId, Revision, StageIndex};
    use serinus_core::domain::label::Label;
    use serinus_core::domain::routing::Role;
    use serinus_core::domain::time::{Span, Timestamp};
    use serinus_core::engine::analyst::io::{Event, Settings};
    use serinus_core::engine::analyst::lane::Analyst;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn prediction(n: i64, rollout: Option<&str>) -> Prediction {
        Prediction {
            case: CaseId { partition: 2, offset: n },
            request_id: format!("r{n}").as_str().into(),
            rollout: rollout.map(Into::into),
            revision: Revision(3),
            stage: StageIndex(1),
            unit: Some(b"\xff\x00u".as_slice().into()),
            segments: [("carrier".into(), "AA".into())].into(),
            arm: "v2".into(),
            propensity: 0.1,
            served: Some("v1".into()),
            outcome: Outcome::Fallback,
            requested_at: NOW,
            routed_at: NOW + Span(1),
            served_at: NOW + Span(2),
            answers: vec![CaseAnswer {
                version: "v2".into(),
                role: Role::Serve,
                status: AnswerStatus::Error,
                latency: Some(Span(7)),
                value: Some(b"{\"score\":0.1}".as_slice().into()),
                error: Some("it said so".into()),
            }],
        }
    }

    fn lane() -> Analyst {
        let mut lane = Analyst::new(Settings::new("m".into(), 2, 4));
        let mut out = Vec::new();
        for n in 0..5 {
            // The rollout of the last is not known.
            let prediction = Box::new(prediction(n, (n == 4).then_some("r")));
            lane.handle(NOW, Event::Prediction { offset: n, prediction }, &mut out);
        }
        for (offset, id) in [(0, "r1"), (1, "r1"), (2, "nobody's")] {
            let label = Label {
                request_id: id.into(),
                value: json!({"late": 0.1}),
                observed_at: NOW,
                version: u64::try_from(offset).expect("it is small"),
                retract: offset == 1,
            };
            let event = Event::Label { offset, source: Some(1), label: Box::new(label) };
            lane.handle(NOW, event, &mut out);
        }
        lane
    }

    fn file(lane: &Analyst) -> (SnapshotHeader, Vec<u8>) {
        let last = AnalystTurn {
            turn: 9,
            now: NOW.0,
            predictions: 5,
            labels: 3,
            lag: (0, 1),
            sources: Some(4),
            known: Some(2),
            checkpoint: CheckpointRecord::from(&lane.checkpoint()),
        };
        let start = ReplayStart {
            turn: 1,
            now: NOW,
            first: 2,
            second: 3,
            next: 4,
            published: 5,
            has_gap: false,
        };
        let (model, starts) = ("m".into(), vec![start, ReplayStart { turn: 2, ..start }]);
        let place = SnapshotHeader { model, partition: 2, last, published: 8, starts };
        let mut bytes = Vec::new();
        let written = write(&mut bytes, &place, lane).expect("memory takes it");
        assert_eq!(written, bytes.len() as u64);
        (place, bytes)
    }

    fn read(bytes: &[u8]) -> Result<(SnapshotHeader, Analyst), SnapshotError> {
        let mut lane = Analyst::new(Settings::new("m".into(), 2, 4));
        let place = SnapshotReader::open(bytes)?.read_into(&mut lane)?;
        Ok((place, lane))
    }

    #[test]
    fn what_was_saved_is_read_as_it_was() {
        let lane = lane();
        let (place, bytes) = file(&lane);
        let (read_place, read_lane) = read(&bytes).expect("it was just written");
        assert_eq!(read_place, place);
        assert_eq!(read_lane.save(), lane.save());
        assert_eq!(read_lane.cases(), 5);
        assert!(read_lane.entries().eq(lane.entries()));
        assert_eq!(read_lane.entries().count(), 5);
    }

    #[test]
    fn a_file_that_ends_early_or_has_one_wrong_byte_is_told() {
        let (_, bytes) = file(&lane());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "the first {length} bytes");
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            assert!(read(&wrong).is_err(), "byte {at}");
        }
    }
}
