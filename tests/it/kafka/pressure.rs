//! Recovery times and load figures, measured on a real Kafka in one run.
//!
//! Measures the time to the first answer after a kill, the restore time of an analyst, and the effect of a burst and of a flood of labels on
//! latency and memory. Small by default, with assertions; `make bench` makes them large (`SERINUS_PENDING`, `SERINUS_RATE`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::kit::clock::{Deadline, Stopwatch, unix_ms};
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::log;
use crate::kit::process::{Process, figure};
use crate::kit::specs;
use crate::kit::traffic::Traffic;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

fn spec() -> String {
    specs::shadow("  timeout: 30s\n  shadowTimeout: 30s", "6h")
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |d| d.parse().expect("it is a number"))
}

fn start(kafka: &Kafka, what: &str) -> (World, Process, Vec<Worker>) {
    let world = World::new(kafka, what, &spec());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"].map(|w| Worker::start(kafka, &world.name, w, Behavior::default()));
    (world, run, workers.into())
}

/// By request id: the request time and the latency in milliseconds.
fn latencies(world: &World) -> BTreeMap<String, (i64, i64)> {
    let asked: BTreeMap<String, i64> = world
        .kafka
        .read_all(&world.topic("requests"))
        .iter()
        .filter_map(|t| Some((t.header("ce_id")?.to_owned(), t.timestamp)))
        .collect();
    let served = world.kafka.read_all(&world.topic("served"));
    served
        .iter()
        .filter_map(|s| {
            let id = s.header("serinus-request-id")?;
            let at = *asked.get(id)?;
            Some((id.to_owned(), (at, s.timestamp - at)))
        })
        .collect()
}

fn quantile(mut values: Vec<i64>, part: f64) -> i64 {
    values.sort_unstable();
    assert!(!values.is_empty(), "there is something to measure");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a short list"
    )]
    let place = ((values.len() - 1) as f64 * part).round() as usize;
    values[place]
}

/// Returns current and peak memory of a process in MiB.
fn memory(process: &Process) -> (u64, u64) {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let kib = |name: &str| {
        let line = status.lines().find(|s| s.starts_with(name)).expect("the system tells it");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    (kib("VmRSS:") / 1024, kib("VmHWM:") / 1024)
}

/// From kill -9 to the first answer to a later request: the same instance restarted, and another instance.
#[test]
fn a_killed_instance_is_replaced_within_seconds() {
    let Some(kafka) = Kafka::find() else { return };
    let (world, mut run, _workers) = start(&kafka, "soon");
    let mut served = Reader::open(&kafka, &world.topic("served"));
    let mut sent = 0;
    let mut ask = |served: &mut Reader, count: usize| {
        world.send_requests(sent, sent + count);
        sent += count;
        served.until("an answer to each", WAIT, |u| u.len() >= sent);
    };
    ask(&mut served, 40);
    let mut restarted = Vec::new();
    for _ in 0..3 {
        run.kill();
        let watch = Stopwatch::start();
        run = world.run_bare("one");
        ask(&mut served, 4);
        restarted.push(watch.elapsed());
    }
    // Another instance already has some of the partitions when this one dies.
    let other = world.run_bare("two");
    let deadline = Deadline::after(WAIT);
    while log::serving_lanes(&other.log_text()) < 2 {
        assert!(!deadline.is_over(), "the other has no partitions:\n{}", other.log_end());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    ask(&mut served, 40);
    run.kill();
    let watch = Stopwatch::start();
    ask(&mut served, 4);
    let taken_over = watch.elapsed();
    restarted.sort_unstable();
    println!(
        "kill -9 to answers on all four partitions: restarted under its name {:?} (of {restarted:?}), taken over by another instance {taken_over:?}",
        restarted[1]
    );
    assert!(restarted[1] < Duration::from_secs(15), "{restarted:?}");
    // The session timeout of a dead member is ten seconds.
    assert!(taken_over < Duration::from_secs(30), "{taken_over:?}");
    other.stop();
}

/// The time an analyst needs to read waiting predictions, and to restore them after a kill.
#[test]
fn an_analyst_restores_its_cases() {
    let Some(kafka) = Kafka::find() else { return };
    let pending = number("SERINUS_PENDING", 20_000);
    let (world, run, workers) = start(&kafka, "held");
    // Written directly to the log, so that no million requests have to be served.
    let partitions = kafka.partitions(&world.topic("predictions"));
    let began = unix_ms();
    let predictions: Vec<Record> =
        (0..pending).map(|p| prediction(&world, p, partitions, began)).collect();
    let watch = Stopwatch::start();
    for part in predictions.chunks(100_000) {
        kafka.send(&world.topic("predictions"), part);
    }
    await_sum(&run, "serinus_pending_cases", pending);
    let taken_in = watch.elapsed();
    let (now, _) = memory(&run);
    let lanes = usize::try_from(partitions).expect("it is small");
    await_sum(&run, "serinus_lane_files_written", lanes);
    let bytes: u64 = std::fs::read_dir(world.data_dir("one"))
        .expect("the folder was made")
        .map(|d| d.and_then(|i| i.metadata()).expect("a file has a size").len())
        .sum();
    run.kill();
    let watch = Stopwatch::start();
    let run = world.run_with_files("one");
    await_restore(&run, lanes, pending);
    let (from_files, memory_from_files) = (watch.elapsed(), memory(&run).0);
    assert_eq!(run.log_text().matches("is_from_file=true").count(), lanes, "each from its file");
    run.kill();
    let watch = Stopwatch::start();
    let run = world.run_bare("one");
    await_restore(&run, lanes, pending);
    let (from_topics, memory_from_topics) = (watch.elapsed(), memory(&run).0);
    println!(
        "{pending} pending predictions: taken in {taken_in:?}, {now} MiB; restored from files of {} MiB {from_files:?}, {memory_from_files} MiB; restored from the topics alone {from_topics:?}, {memory_from_topics} MiB",
        bytes >> 20
    );
    run.stop();
    drop(workers);
}

/// A steady rate, twenty times that for a while, the steady rate again; then the labels of all requests at once.
#[test]
fn a_burst_and_a_flood_of_labels_are_absorbed() {
    let Some(kafka) = Kafka::find() else { return };
    let rate = number("SERINUS_RATE", 20);
    let (world, run, workers) = start(&kafka, "burst");
    let steady = Duration::from_secs(8);
    let mut sent: Vec<Sent> = Vec::new();
    let mut phases = Vec::new();
    for (what, per_second, seconds) in
        [("before", rate, 8), ("burst", rate * 20, 5), ("after", rate, 8)]
    {
        let began = unix_ms();
        let traffic = Traffic::unlabelled(&world, sent.len(), per_second as f64);
        std::thread::park_timeout(Duration::from_secs(seconds));
        sent.extend(traffic.stop());
        phases.push((what, began, unix_ms(), memory(&run)));
    }
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to each", WAIT, |u| u.len() >= sent.len());
    // All labels at once while requests continue.
    let began = unix_ms();
    let traffic = Traffic::start_at(&world, sent.len(), rate as f64);
    world.send_labels(&sent);
    let mut placed =
        Reader::open(&kafka, &format!("{}.internal.{}.labels", world.name, world.name));
    let labels = sent.iter().filter(|s| s.has_label).count();
    placed.until("every label in its place", WAIT, |u| {
        u.iter().filter(|i| i.key.is_some()).count() >= labels
    });
    std::thread::park_timeout(
        steady.saturating_sub(Duration::from_millis(u64::try_from(unix_ms() - began).unwrap_or(0))),
    );
    let ended = unix_ms();
    sent.extend(traffic.stop());
    phases.push(("labels", began, ended, memory(&run)));
    served.until("an answer to each", WAIT, |u| u.len() >= sent.len());
    let latencies = latencies(&world);
    assert_eq!(latencies.len(), sent.len(), "each is answered once");
    for (what, began, ended, (now, most)) in phases {
        let inside: Vec<i64> = latencies
            .values()
            .filter(|(at, _)| (began..=ended).contains(at))
            .map(|(_, latency)| *latency)
            .collect();
        println!(
            "{what}: {} requests, p50 {} ms, p99 {} ms; memory {now} MiB, at most {most} MiB so far",
            inside.len(),
            quantile(inside.clone(), 0.5),
            quantile(inside.clone(), 0.99),
        );
        assert!(most < 1024, "memory is bounded: {most} MiB");
        assert!(quantile(inside, 0.99) < 30_000, "{what}: answers came by their deadline");
    }
    run.stop();
    drop(workers);
}

/// A prediction record that waits hours for its label.
fn prediction(world: &World, number: usize, partitions: i32, at: i64) -> Record {
    let id = format!("{}-p{number}", world.name);
    let value = json!({
        "request_id": id, "model": world.name, "rollout": world.rollout(), "revision": 2, "stage": 0,
        "unit": format!("unit-{}", number % 5000), "arm": "v1", "propensity": 1.0,
        "served": {"version": "v1", "outcome": "ok"}, "requested_at": at, "routed_at": at, "served_at": at + 5,
        "answers": [
            {"version": "v1", "role": "serve", "status": "ok", "latency_ms": 5.0, "value": {"score": 0.5}},
            {"version": "v2", "role": "shadow", "status": "ok", "latency_ms": 6.0, "value": {"score": 0.2}},
        ],
        "source": {"partition": 0, "offset": 1_000_000 + number},
    });
    let partition = serinus::wire::placement::partition(id.as_bytes(), partitions);
    Record { partition, key: Some(id.into()), value: value.to_string().into(), ..Record::default() }
}

/// Waits until every lane is restored and all lanes together hold this many cases.
fn await_restore(run: &Process, lanes: usize, pending: usize) {
    let ready = || log::analyst_lanes(&run.log_text());
    run.await_condition("every lane", Duration::from_mins(10), || ready() >= lanes);
    // If the role restarted in between, the last restore of each partition counts.
    let held: usize = cases_of_lanes(&run.log_text()).iter().rev().take(lanes).sum();
    assert_eq!(held, pending, "all are held again");
}

/// Waits until a metric of the instance has this sum over all labels.
fn await_sum(run: &Process, name: &str, wanted: usize) {
    let address = run.http_address();
    let wait = Duration::from_mins(10);
    run.await_condition(&format!("{wanted} {name}"), wait, || figure(&address, name) >= wanted);
}

/// Returns the number of cases that each analyst lane restored, in the order of the log.
fn cases_of_lanes(text: &str) -> Vec<usize> {
    text.lines()
        .filter(|line| log::analyst_lanes(line) > 0)
        .filter_map(|line| {
            let (_, rest) = line.split_once("cases=")?;
            rest.split_whitespace().next()?.parse().ok()
        })
        .collect()
}
