//! Snapshots of analyst lanes: used after a restart; replaced by a replay if damaged, foreign or missing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kit::kafka::{Kafka, Reader};
use crate::kit::log;
use crate::kit::process::{Process, figure};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{WAIT, World};

fn spec() -> String {
    specs::shadow("  timeout: 60s\n  shadowTimeout: 60s", "6h")
}

/// Enough requests for every partition of the predictions.
const REQUESTS: usize = 200;

/// Number of lanes.
fn lanes(world: &World) -> usize {
    usize::try_from(world.kafka.partitions(&world.topic("predictions"))).expect("it is small")
}

/// Sends requests, waits until the cases are held, and stops the worker.
fn hold(world: &World, run: &Process) {
    let workers =
        ["v1", "v2"].map(|w| Worker::start(&world.kafka, &world.name, w, Behavior::default()));
    world.send_requests(0, REQUESTS);
    let mut closed = Reader::open(&world.kafka, &world.topic("predictions"));
    closed.until("a prediction of each", WAIT, |u| u.len() >= REQUESTS);
    drop(workers);
    let address = run.http_address();
    run.await_condition("the cases", WAIT, || {
        figure(&address, "serinus_pending_cases") >= REQUESTS
    });
}

/// Restarts with the files of the folder; returns the number of lanes restored from a file, the number of rejected files, and the log.
fn again(world: &World) -> (usize, usize, String) {
    let run = world.run_with_files("one");
    let address = run.http_address();
    run.await_condition("all cases", WAIT, || {
        figure(&address, "serinus_pending_cases") >= REQUESTS
    });
    let used = figure(&address, "serinus_lane_files_used_total");
    let refused = figure(&address, "serinus_lane_files_refused_total");
    (used, refused, run.stop_and_read())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).expect("the folder was made");
    let mut files: Vec<PathBuf> = all.map(|f| f.expect("it can be listed").path()).collect();
    files.sort();
    files
}

#[test]
fn a_lane_restores_from_its_snapshot_or_else_from_the_topics() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "files", &spec());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    hold(&world, &run);
    run.stop();
    let folder = world.data_dir("one");
    let lanes = lanes(&world);
    assert_eq!(files(&folder).len(), lanes, "a file a lane, and no draft");
    let (used, refused, log) = again(&world);
    assert_eq!((used, refused), (lanes, 0), "{log}");

    // One damaged, one truncated, one of another lane, one missing, one that is not a snapshot.
    let all = files(&folder);
    let mut bytes = fs::read(&all[0]).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&all[0], &bytes).expect("it can be written");
    let bytes = fs::read(&all[1]).expect("it can be read");
    fs::write(&all[1], &bytes[..bytes.len() / 2]).expect("it can be written");
    fs::copy(&all[4], &all[2]).expect("it can be copied");
    fs::remove_file(&all[3]).expect("it can be removed");
    fs::write(&all[5], "nothing of ours, and long enough to be read").expect("it can be written");
    let (used, refused, log) = again(&world);
    assert_eq!((used, refused), (lanes - 5, 4), "{log}");
    for why in ["is damaged", "ends early", "another lane", "not a lane snapshot"] {
        assert!(log.contains(why), "no `{why}` in {log}");
    }
    // They were written again at shutdown.
    let (used, refused, log) = again(&world);
    assert_eq!((used, refused), (lanes, 0), "{log}");
}

#[test]
fn an_unwritable_folder_only_logs_a_warning() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "nofiles", &spec());
    // A file is in the place of the folder.
    fs::write(world.data_dir("one"), "in the way").expect("it can be written");
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    hold(&world, &run);
    let address = run.http_address();
    run.await_condition("a failure", WAIT, || {
        figure(&address, "serinus_lane_files_failed_total") > 0
    });
    let log = run.stop_and_read();
    assert!(log.contains(log::SNAPSHOT_NOT_SAVED), "{log}");
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to each", WAIT, |u| u.len() >= REQUESTS);
    assert_eq!(served.records.len(), REQUESTS);
}
