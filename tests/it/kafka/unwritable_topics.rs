//! Topics that reject records, on a real Kafka: serving continues, and unsent records are counted and reported.

use std::time::Duration;

use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::{Process, figure, folder, serinus};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{PARTITIONS, World};

/// Timeout for expected events; served requests have their own deadlines.
const WAIT: Duration = Duration::from_mins(1);

fn spec() -> String {
    specs::shadow("  timeout: 5s\n  shadowTimeout: 6s", "2s")
}

fn run_with(world: &World, more: &[&str]) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.app]);
    command.args(["--instance", "one", "--http", "127.0.0.1:0", "--create-topics"]);
    command.arg("--apply").arg(&world.spec).args(more);
    Process::start(&mut command, &folder(&world.app).join("run-one.log"))
}

/// Text of this many bytes that does not compress well.
fn noise(seed: usize, bytes: usize) -> String {
    let mut state = seed as u64 * 2 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
                [(state >> 58) as usize],
        )
    };
    (0..bytes).map(|_| next()).collect()
}

/// Sends requests with values of this many bytes, and returns their ids.
fn ask(world: &World, from: usize, to: usize, bytes: usize) -> Vec<String> {
    let requests: Vec<_> = (from..to).map(|t| world.request(t)).collect();
    let records: Vec<Record> = requests
        .iter()
        .zip(from..)
        .map(|(f, seed)| Record { value: noise(seed, bytes).into(), ..f.record() })
        .collect();
    world.kafka.send(&world.topic("requests"), &records);
    requests.into_iter().map(|r| r.id).collect()
}

/// Waits until each of these requests is served, and returns their outcomes.
fn outcomes(world: &World, ids: &[String]) -> Vec<String> {
    let mut served = Reader::open(&world.kafka, &world.topic("served"));
    let of = |records: &[Record], id: &String| -> Vec<String> {
        let theirs = records.iter().filter(|r| r.header("serinus-request-id") == Some(id));
        theirs.map(|t| t.header("serinus-outcome").unwrap_or_default().to_owned()).collect()
    };
    let what = format!("{} served requests of `{}`", ids.len(), world.name);
    served.until(&what, WAIT, |records| ids.iter().all(|id| !of(records, id).is_empty()));
    let all: Vec<Vec<String>> = ids.iter().map(|id| of(&served.records, id)).collect();
    assert!(all.iter().all(|a| a.len() == 1), "each is served once");
    all.concat()
}

fn status(world: &World, name: &str) -> String {
    let output = serinus()
        .args(["status", name, "--bootstrap", &world.kafka.bootstrap, "--app", &world.app])
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until the status of a rollout contains all of these texts.
fn await_status(world: &World, run: &Process, words: &[&str]) {
    let mut said = String::new();
    run.await_condition(&format!("{words:?} in the status"), WAIT, || {
        said = status(world, &world.rollout());
        words.iter().all(|w| said.contains(w))
    });
}

#[test]
fn a_shadow_topic_that_rejects_a_record_stops_no_model() {
    let Some(kafka) = Kafka::find() else { return };
    let worlds = World::several(&kafka, "refusing", &[("a", spec()), ("b", spec())]);
    let [a, b] = &worlds[..] else { panic!("two models") };
    let refusing = a.topic("v2.requests");
    kafka.create_topic(&refusing, PARTITIONS, &[("max.message.bytes", "2000")]);
    let mut run = run_with(a, &[]);
    for world in [a, b] {
        world.await_phase("Progressing", &mut run);
    }
    let _workers = [(a, "v1"), (a, "v2"), (b, "v1"), (b, "v2")]
        .map(|(world, version)| Worker::start(&kafka, &world.name, version, Behavior::default()));
    let large = ask(a, 0, 40, 6_000);
    let small = ask(b, 0, 40, 100);
    for (world, ids) in [(a, &large), (b, &small)] {
        assert_eq!(outcomes(world, ids), vec!["ok"; ids.len()], "of `{}`", world.name);
    }
    let address = run.http_address();
    run.await_condition("copies counted as not sent", WAIT, || {
        figure(&address, "serinus_too_large_total") >= 40
    });
    assert!(figure(&address, "serinus_forward_failed_total") >= 40);
    await_status(a, &run, &[&refusing, "not sent"]);
    // Smaller requests are still copied.
    let fitting = ask(a, 40, 44, 300);
    assert_eq!(outcomes(a, &fitting), vec!["ok"; 4]);
    let mut copies = Reader::open(&kafka, &refusing);
    let is_copied = |records: &[Record], id: &String| {
        records.iter().any(|r| r.header("serinus-request-id") == Some(id))
    };
    copies
        .until("copies that fit", WAIT, |records| fitting.iter().all(|id| is_copied(records, id)));
    let letters = kafka.read_all(&a.topic("dead-letters"));
    let says_why = |r: &&Record| {
        let reason = r.header("serinus-dead-reason").unwrap_or_default();
        reason.contains(&refusing) && reason.contains("max.message.bytes")
    };
    assert_eq!(letters.iter().filter(says_why).count(), 40, "each large copy is a dead letter");
    run.stop();
}

/// As with leaderless partitions or a revoked write permission: the broker does not answer, or rejects everything.
#[test]
fn a_deleted_shadow_topic_stops_no_model_and_status_names_it() {
    let Some(kafka) = Kafka::find() else { return };
    let worlds = World::several(&kafka, "deleted", &[("a", spec()), ("b", spec())]);
    let [a, b] = &worlds[..] else { panic!("two models") };
    let mut run = run_with(a, &[]);
    for world in [a, b] {
        world.await_phase("Progressing", &mut run);
    }
    let _workers = [(a, "v1"), (b, "v1"), (b, "v2")]
        .map(|(world, version)| Worker::start(&kafka, &world.name, version, Behavior::default()));
    for world in [a, b] {
        let ids = ask(world, 0, 8, 100);
        assert_eq!(outcomes(world, &ids), vec!["ok"; 8]);
    }
    let deleted = a.topic("v2.requests");
    kafka.delete_topic(&deleted);
    for part in 1..6 {
        for world in [a, b] {
            let ids = ask(world, part * 8, part * 8 + 8, 100);
            assert_eq!(outcomes(world, &ids), vec!["ok"; 8], "of `{}`, part {part}", world.name);
        }
    }
    await_status(a, &run, &[&deleted, "not sent"]);
    let address = run.http_address();
    let not_sent = || {
        figure(&address, "serinus_forward_failed_total")
            + figure(&address, "serinus_version_absent_total")
    };
    assert!(not_sent() > 0);
    assert_eq!(kafka.partitions(&deleted), 0, "it was not recreated");
    // The recreated topic is used again.
    kafka.create_topic(&deleted, PARTITIONS, &[]);
    let mut copies = Reader::open(&kafka, &deleted);
    let mut next = 48;
    run.await_condition("a copy", WAIT, || {
        ask(a, next, next + 4, 100);
        next += 4;
        copies.wait(Duration::from_secs(1), |records| !records.is_empty())
    });
    run.stop();
}

#[test]
fn a_request_too_large_for_its_version_topic_blocks_nothing() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "larger", &spec().replace("timeout: 5s", "timeout: 4s"));
    let requests = world.topic("requests");
    kafka.set_topic(&requests, "max.message.bytes", "5000000");
    let mut run = run_with(&world, &["-X", "message.max.bytes=5000000"]);
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|r| Worker::start(&kafka, &world.name, r, Behavior::default()));
    let large = ask(&world, 0, 1, 2_000_000);
    let small = ask(&world, 1, 11, 100);
    assert_eq!(outcomes(&world, &small), vec!["ok"; 10]);
    assert_eq!(outcomes(&world, &large), ["error"]);
    let limited = world.topic("v1.requests");
    let mut letters = Reader::open(&kafka, &world.topic("dead-letters"));
    letters.until("a dead letter that names the limit", WAIT, |records| {
        records.iter().any(|r| {
            let reason = r.header("serinus-dead-reason").unwrap_or_default();
            reason.contains(&limited) && reason.contains("1048588")
        })
    });
    let log = run.log_text();
    let says_it = |line: &str| {
        line.contains("max.message.bytes") && line.contains(&limited) && line.contains("1048588")
    };
    assert!(log.lines().any(says_it), "the start does not report the difference:\n{log}");
    let output = serinus()
        .args(["topics", "check", "--bootstrap", &kafka.bootstrap, "--app", &world.app])
        .arg(&world.spec)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.lines().any(says_it), "the check does not report it: {said}");
    run.stop();
}

/// Brokers apply the limit of a topic to whole batches: small records may be too large together, and a single answer alone.
#[test]
fn outputs_too_large_for_their_topics_block_nothing() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "narrow", &spec());
    let narrow = ["served", "predictions", "analysis", "dead-letters", "v2.requests"];
    for it in narrow {
        kafka.create_topic(&world.topic(it), PARTITIONS, &[("max.message.bytes", "2000")]);
    }
    let mut run = run_with(&world, &[]);
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"].map(|w| Worker::start(&kafka, &world.name, w, Behavior::default()));
    let many = ask(&world, 0, 200, 300);
    assert_eq!(outcomes(&world, &many), vec!["ok"; 200]);
    drop(workers);
    // Now directly, with an answer that does not fit.
    let wide = ask(&world, 200, 201, 300);
    let mut copies = Reader::open(&kafka, &world.topic("v1.requests"));
    let is_it = |r: &&Record| r.header("serinus-request-id") == Some(&wide[0]);
    copies.until("the copy", WAIT, |records| records.iter().any(|r| is_it(&r)));
    let copy = copies.records.iter().find(is_it).expect("it came");
    let ours = |name: &str| (name.to_owned(), copy.header(name).expect("it is ours").into());
    let answer = Record {
        partition: 200 % PARTITIONS,
        value: noise(7, 6_000).into(),
        headers: vec![ours("serinus-case"), ours("serinus-version")],
        ..Record::default()
    };
    let nonsense = Record { value: noise(8, 6_000).into(), ..Record::default() };
    kafka.send(&world.topic("responses"), &[answer, nonsense]);
    assert_eq!(outcomes(&world, &wide), ["error"]);
    let mut letters = Reader::open(&kafka, &world.topic("dead-letters"));
    letters.until("a dead letter of the nonsense", WAIT, |records| {
        records.iter().any(|r| r.header("serinus-dead-topic") == Some(&world.topic("responses")))
    });
    let mut rows = Reader::open(&kafka, &world.topic("analysis"));
    rows.until("a row of each case", WAIT, |records| records.len() > 200);
    run.stop();
}
