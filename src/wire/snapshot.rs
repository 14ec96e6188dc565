//! The snapshot of an analyst lane: a file with the lane's whole state between two turns, from which a restart continues.
//!
//! The file is a cache: a damaged one is refused, and the lane restores from the topics. It is a sequence of frames, each with its
//! length and its checksum: a head in JSON, blocks of pending entries in [postcard](https://postcard.jamesmunns.com), and an end with
//! the number of entries.

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

/// The first bytes of the file, with the version of the format.
const MAGIC: &[u8; 16] = b"serinus lane 2\n\0";
/// The number of request ids in a block.
const BLOCK: usize = 1024;
/// The largest frame, 1 GiB. A larger length can only come from a damaged file.
const FRAME_MAX: u32 = 1 << 30;

/// The position of a lane in its topics when the snapshot was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotHeader {
    /// The model.
    pub model: ModelName,
    /// The partition.
    pub partition: i32,
    /// The journal record of the last turn in the snapshot. If the journal has another record for this turn, the snapshot is not used.
    pub last: AnalystTurn,
    /// One more than the newest turn that published sums, or 0 if none did.
    pub published: u64,
    /// The positions from which a replay without the snapshot could start, by turn.
    pub starts: Vec<ReplayStart>,
}

/// The reason why a snapshot cannot be read or written.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Reading or writing the file failed.
    #[error("{0}")]
    Io(std::io::Error),
    /// The file is truncated.
    #[error("the file ends early")]
    Short,
    /// The file is not a snapshot, or has the format of another build.
    #[error("not a lane snapshot of this build")]
    Foreign,
    /// The checksum or the content of a frame is wrong.
    #[error("frame {0} is damaged")]
    Damaged(u64),
    /// A record in the file is invalid.
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

/// The fields of a `ReplayStart`.
type StartRecord = (u64, i64, i64, i64, u64, u64);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EndRecord {
    entries: u64,
}

/// Writes a snapshot and returns its size in bytes.
#[expect(clippy::missing_panics_doc, reason = "a record of texts and numbers is always JSON")]
pub fn write(
    out: impl Write,
    header: &SnapshotHeader,
    lane: &Analyst,
) -> Result<u64, SnapshotError> {
    let mut out = FrameWriter { out, bytes: 0 };
    out.out.write_all(MAGIC)?;
    let saved = lane.save();
    let head = HeadRecord {
        model: header.model.to_string(),
        partition: header.partition,
        last: header.last.clone(),
        published: header.published,
        inputs: (saved.inputs.predictions, saved.inputs.labels),
        lag: saved.lag,
        checkpoint: CheckpointRecord::from(&saved.checkpoint),
        books: saved.books.iter().map(BookRecord::from).collect(),
    };
    out.frame(&serde_json::to_vec(&head).expect("our records have text keys"))?;
    let start = |r: &ReplayStart| (r.turn, r.now.0, r.first, r.second, r.next, r.published);
    out.record(&header.starts.iter().map(start).collect::<Vec<StartRecord>>())?;
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
    // An empty block ends the list; no other block is empty.
    out.record(&Vec::<EntryRecord<'_>>::new())?;
    out.record(&EndRecord { entries })?;
    out.out.flush()?;
    Ok(out.bytes + MAGIC.len() as u64)
}

/// Reads a snapshot: first its header, then the state of the lane.
pub struct SnapshotReader<R> {
    frames: FrameReader<R>,
    header: SnapshotHeader,
    saved: Saved,
    names: Interner,
}

impl<R: Read> SnapshotReader<R> {
    /// Opens a snapshot and reads its header.
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
        let header = SnapshotHeader {
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
        Ok(Self { frames, header, saved, names })
    }

    /// Returns the header.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Restores the state into a lane that has its plans and nothing else.
    ///
    /// After an error the lane is in an undefined state: discard it.
    pub fn read_into(mut self, lane: &mut Analyst) -> Result<SnapshotHeader, SnapshotError> {
        lane.take_saved(self.saved);
        let mut entries = 0;
        loop {
            let frame = self.frames.frame()?;
            let block: Vec<EntryRecord<'_>> = self.frames.parse(&frame)?;
            if block.is_empty() {
                break;
            }
            for record in block {
                let (id, entry): (RequestId, Entry) = record.into_entry(&mut self.names);
                lane.put_back(id, entry);
                entries += 1;
            }
        }
        let end: EndRecord = self.frames.record()?;
        if end != (EndRecord { entries }) {
            return Err(SnapshotError::Damaged(self.frames.read));
        }
        Ok(self.header)
    }
}

impl From<&SavedBook> for BookRecord {
    fn from(saved: &SavedBook) -> Self {
        Self {
            partial: PartialRecord::from(&saved.partial),
            tick: saved.tick.map(|t| t.0),
            changed: saved.is_changed,
            replay_turn: saved.replay_turn,
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
        // Do not allocate `length` bytes first: a damaged length can be far larger than the file.
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
                error: Some("failed".into()),
            }],
        }
    }

    fn lane() -> Analyst {
        let mut lane = Analyst::new(Settings::new("m".into(), 2, 4));
        let mut out = Vec::new();
        for n in 0..5 {
            // The rollout of the last prediction is unknown.
            let prediction = Box::new(prediction(n, (n == 4).then_some("r")));
            lane.handle(NOW, Event::Prediction { offset: n, prediction }, &mut out);
        }
        for (offset, id) in [(0, "r1"), (1, "r1"), (2, "unknown")] {
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
        let header = SnapshotHeader { model, partition: 2, last, published: 8, starts };
        let mut bytes = Vec::new();
        let written = write(&mut bytes, &header, lane).expect("memory takes it");
        assert_eq!(written, bytes.len() as u64);
        (header, bytes)
    }

    fn read(bytes: &[u8]) -> Result<(SnapshotHeader, Analyst), SnapshotError> {
        let mut lane = Analyst::new(Settings::new("m".into(), 2, 4));
        let header = SnapshotReader::open(bytes)?.read_into(&mut lane)?;
        Ok((header, lane))
    }

    #[test]
    fn a_snapshot_is_read_back() {
        let lane = lane();
        let (header, bytes) = file(&lane);
        let (read_header, read_lane) = read(&bytes).expect("it was just written");
        assert_eq!(read_header, header);
        assert_eq!(read_lane.save(), lane.save());
        assert_eq!(read_lane.cases(), 5);
        assert!(read_lane.entries().eq(lane.entries()));
        assert_eq!(read_lane.entries().count(), 5);
    }

    #[test]
    fn a_truncated_file_or_one_wrong_byte_is_an_error() {
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
