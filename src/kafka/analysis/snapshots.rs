//! The files of analyst lanes in the data folder: written now and then between two turns, read when a lane is restored.
//!
//! They are a cache beside the topics, which can always be thrown away: one that is missing, damaged or of another lane is said so,
//! and costs the time that a restore from the topics takes. One file a lane, put in its place as a whole.

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
/// How long after a lane was opened or saved it is saved again, at the soonest.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Saving may take one part of so many of the time.
const TIME_PARTS: u32 = 20;
/// How long saving may take when the process ends.
const LAST_SAVES_MAX: Duration = Duration::from_secs(8);

/// A lane's file that is being read.
pub type LaneReader = SnapshotReader<BufReader<File>>;

/// The files of an instance's lanes; none where there is no folder for them.
pub struct LaneStore<'a> {
    /// The folder, and what the files' names begin with.
    place: Option<(PathBuf, String)>,
    /// When each lane may be saved again, and the turn that it was saved at.
    due: BTreeMap<LaneKey, (Instant, Option<u64>)>,
    /// Before this none is, so that saving takes no more of the time however many lanes there are.
    rests_until: Instant,
    board: &'a MetricsRegistry,
}

impl<'a> LaneStore<'a> {
    /// Keeps the files of an application in a folder, if one is given.
    pub fn new(folder: Option<&Path>, app: &str, board: &'a MetricsRegistry) -> Self {
        let place = folder.map(|f| (f.to_owned(), app.to_owned()));
        Self { place, due: BTreeMap::new(), rests_until: clock::moment(), board }
    }

    fn count(&self, model: &ModelName, counter: Counter) {
        self.board.add(model, counter.describe().0, 1);
    }

    fn path(&self, model: &ModelName, partition: i32) -> Option<PathBuf> {
        // Names of applications and models are names of topics: nothing in them leads out of the folder.
        let (folder, app) = self.place.as_ref()?;
        Some(folder.join(format!("{app}.{model}.{partition}.lane")))
    }

    /// Opens the file of a lane, if there is one that can be of use.
    pub fn open(&self, model: &ModelName, partition: i32) -> Option<LaneReader> {
        let path = self.path(model, partition)?;
        let opened = File::open(&path).map_err(SnapshotError::from);
        match opened.and_then(|o| SnapshotReader::open(BufReader::with_capacity(1 << 20, o))) {
            Ok(it) if it.header().model == *model && it.header().partition == partition => Some(it),
            Ok(_) => self.refuse(model, partition, "it is another lane's"),
            Err(SnapshotError::Io(error)) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => self.refuse(model, partition, &error.to_string()),
        }
    }

    /// Says and counts why a file is of no use.
    pub fn refuse<T>(&self, model: &ModelName, partition: i32, why: &str) -> Option<T> {
        warn!(%model, partition, why, "the lane's file is not used; it restores from the topics");
        self.count(model, Counter::LaneFileRefused);
        None
    }

    /// Counts a file that was read.
    pub fn has_used(&self, model: &ModelName) {
        self.count(model, Counter::LaneFileUsed);
    }

    /// Saves the lane that has been due the longest and that has taken a turn since it was saved; one at a time, so that no pause is long.
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

    /// Saves every lane before the process ends, as far as there is time.
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
                debug!(%model, partition, turn, cases, bytes, took = ?began.elapsed(), "lane saved");
                self.count(model, Counter::LaneFileWritten);
            }
            Err(error) => {
                let path = path.display();
                warn!(%model, partition, %path, %error, "the lane could not be saved; a restart takes longer");
                self.count(model, Counter::LaneFileFailed);
            }
        }
        failpoints::at(ROLE, Failpoint::AfterSave);
        let now = clock::moment();
        self.rests_until = now + (now - began) * (TIME_PARTS - 1);
        self.due.insert(key.clone(), (now + SAVE_EVERY, Some(lane.turns())));
    }
}

/// Writes the file beside its place, then puts it there.
fn write(path: &Path, place: &SnapshotHeader, lane: &AnalystLane) -> Result<u64, SnapshotError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A crash leaves one draft at the most. Whatever becomes of the bytes after a power cut, the checksums tell.
    let draft = path.with_extension("draft");
    let file = BufWriter::with_capacity(1 << 20, File::create(&draft)?);
    let written = lane.write_to(file, place);
    failpoints::at(ROLE, Failpoint::BeforeRename);
    if written.is_ok() {
        fs::rename(&draft, path)?;
    }
    written
}
