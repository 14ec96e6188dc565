//! Snapshots of analyst lanes in the data folder: written between two turns, read when a lane is restored.
//!
//! Snapshots are a cache and can be deleted at any time. A snapshot that is missing, damaged or of another lane is logged, and the lane
//! restores from its topics, which takes longer. Each lane has one file, which is replaced atomically.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::kafka::analysis::lane::AnalystLane;
use crate::kafka::lanes::lane::{Lane, LaneKey};
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint};
use crate::kafka::process::metrics::MetricsRegistry;
use crate::wire::snapshot::{SnapshotError, SnapshotHeader, SnapshotReader};
use serinus_core::domain::ids::ModelName;
use serinus_core::engine::counter::Counter;

/// The role whose lanes these are.
const ROLE: failpoints::Role = "analysis";
/// Shortest interval between two snapshots of a lane.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Snapshots may take 1/20 of the role's time.
const TIME_SHARE: u32 = 20;
/// Time for the last snapshots when the process stops.
const LAST_SAVES_MAX: Duration = Duration::from_secs(8);

/// A snapshot that is being read.
pub type LaneReader = SnapshotReader<BufReader<File>>;

/// The snapshots of an instance's lanes; without a data folder there are none.
pub struct LaneStore<'a> {
    /// The folder, and the application id, with which the file names begin.
    place: Option<(PathBuf, String)>,
    /// When each lane may be saved again, and the turn of its newest snapshot.
    due: BTreeMap<LaneKey, (Instant, Option<u64>)>,
    /// No lane is saved before this, which bounds the time spent on snapshots regardless of the number of lanes.
    rests_until: Instant,
    board: &'a MetricsRegistry,
}

impl<'a> LaneStore<'a> {
    /// Keeps snapshots in a folder, if one is given.
    pub fn new(folder: Option<&Path>, app: &str, board: &'a MetricsRegistry) -> Self {
        let place = folder.map(|f| (f.to_owned(), app.to_owned()));
        Self { place, due: BTreeMap::new(), rests_until: clock::moment(), board }
    }

    fn count(&self, model: &ModelName, counter: Counter) {
        self.board.add(model, counter.describe().0, 1);
    }

    fn path(&self, model: &ModelName, partition: i32) -> Option<PathBuf> {
        // Names of applications and models are valid in topic names, so no name leads out of the folder.
        let (folder, app) = self.place.as_ref()?;
        Some(folder.join(format!("{app}.{model}.{partition}.lane")))
    }

    /// Opens the snapshot of a lane, if a usable one exists.
    pub fn open(&self, model: &ModelName, partition: i32) -> Option<LaneReader> {
        let path = self.path(model, partition)?;
        let opened = File::open(&path).map_err(SnapshotError::from);
        match opened.and_then(|o| SnapshotReader::open(BufReader::with_capacity(1 << 20, o))) {
            Ok(it) if it.header().model == *model && it.header().partition == partition => Some(it),
            Ok(_) => self.refuse(model, partition, "it belongs to another lane"),
            Err(SnapshotError::Io(error)) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => self.refuse(model, partition, &error.to_string()),
        }
    }

    /// Logs and counts a snapshot that cannot be used.
    pub fn refuse<T>(&self, model: &ModelName, partition: i32, why: &str) -> Option<T> {
        warn!(%model, partition, why, "snapshot ignored; restoring from the topics");
        self.count(model, Counter::LaneFileRefused);
        None
    }

    /// Counts a snapshot that was used.
    pub fn has_used(&self, model: &ModelName) {
        self.count(model, Counter::LaneFileUsed);
    }

    /// Saves the lane whose snapshot is most overdue, if any is due. It saves one lane at a time to keep the pauses short.
    ///
    /// All turns of the lanes must be committed.
    pub fn save_next(&mut self, lanes: &BTreeMap<LaneKey, AnalystLane>) {
        if self.place.is_none() {
            return;
        }
        let now = clock::moment();
        if now < self.rests_until {
            return;
        }
        self.due.retain(|key, _| lanes.contains_key(key));
        let mut next: Option<(Instant, &LaneKey, &AnalystLane)> = None;
        for (key, lane) in lanes.iter().filter(|(_, l)| l.has_turned()) {
            let (due, saved) = *self.due.entry(key.clone()).or_insert((now + SAVE_EVERY, None));
            let is_due = due <= now && saved != Some(lane.turns());
            if is_due && next.is_none_or(|i| due < i.0) {
                next = Some((due, key, lane));
            }
        }
        if let Some((_, key, lane)) = next {
            self.save(key, lane);
        }
    }

    /// Saves the lanes before the process stops, as far as time permits.
    pub fn save_all(&mut self, lanes: &BTreeMap<LaneKey, AnalystLane>) {
        let began = clock::moment();
        for (key, lane) in lanes.iter().filter(|(_, l)| l.has_turned()) {
            let saved = self.due.get(key).and_then(|k| k.1);
            if saved != Some(lane.turns()) && began.elapsed() < LAST_SAVES_MAX {
                self.save(key, lane);
            }
        }
    }

    fn save(&mut self, key: &LaneKey, lane: &AnalystLane) {
        let (model, partition) = key;
        let (Some(path), Some(place)) = (self.path(model, *partition), lane.place()) else {
            return;
        };
        let began = clock::moment();
        failpoints::at(ROLE, Failpoint::BeforeSave);
        match write(&path, &place, lane) {
            Ok(bytes) => {
                let (turn, cases) = (place.last.turn, lane.cases());
                debug!(%model, partition, turn, cases, bytes, took = ?began.elapsed(), "snapshot written");
                self.count(model, Counter::LaneFileWritten);
            }
            Err(error) => {
                let path = path.display();
                warn!(%model, partition, %path, %error, "snapshot not written; a restart takes longer");
                self.count(model, Counter::LaneFileFailed);
            }
        }
        failpoints::at(ROLE, Failpoint::AfterSave);
        let now = clock::moment();
        self.rests_until = now + (now - began) * (TIME_SHARE - 1);
        self.due.insert(key.clone(), (now + SAVE_EVERY, Some(lane.turns())));
    }
}

/// Writes a draft, then renames it to its final name.
fn write(path: &Path, place: &SnapshotHeader, lane: &AnalystLane) -> Result<u64, SnapshotError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A crash leaves at most one draft. Checksums detect bytes that a power cut lost.
    let draft = path.with_extension("draft");
    let file = BufWriter::with_capacity(1 << 20, File::create(&draft)?);
    let written = lane.write_to(file, place);
    failpoints::at(ROLE, Failpoint::BeforeRename);
    if written.is_ok() {
        fs::rename(&draft, path)?;
    }
    written
}
