//! Topics shared between models, on purpose or by accident, on a real Kafka.

use std::time::Duration;

use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::log;
use crate::kit::process::{figure, folder, serinus};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, World, unique};

const WAIT: Duration = Duration::from_mins(1);

fn spec(topics: &str) -> String {
    specs::shadow(&format!("  timeout: 5s\n  shadowTimeout: 6s\n  topics: {topics}"), "3s")
}

/// Output and exit code of a command.
fn said(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = serinus()
        .args(args)
        .args(["--bootstrap", &world.kafka.bootstrap, "--app", &world.app])
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Writes the spec of another model of the application.
fn write(world: &World, name: &str, text: &str) -> String {
    let path = folder(&world.app).join(format!("{name}.yaml"));
    std::fs::write(&path, text).expect("a spec can be written");
    path.display().to_string()
}

#[test]
fn labels_of_one_topic_serve_every_model_that_names_it() {
    let Some(kafka) = Kafka::find() else { return };
    let labels = unique("company-labels");
    let shared = spec(&format!("{{labels: {labels}}}"));
    let worlds = World::several(&kafka, "shared", &[("a", shared.clone()), ("b", shared)]);
    let [a, b] = &worlds[..] else { panic!("two models") };
    let mut run = a.run();
    for world in [a, b] {
        world.await_phase("Progressing", &mut run);
    }
    let _workers = [a, b].map(|r| Worker::start(&kafka, &r.name, "v1", Behavior::default()));
    let sent: Vec<(&World, Vec<Sent>)> =
        [a, b].map(|s| (s, s.send_requests(0, 24))).into_iter().collect();
    let now = crate::kit::clock::unix_ms();
    let partitions = kafka.partitions(&labels);
    for (_, sent) in &sent {
        let with_label = sent.iter().filter(|s| s.has_label).zip(0..);
        let records: Vec<Record> =
            with_label.map(|(w, n)| Record { partition: n % partitions, ..w.label(now) }).collect();
        kafka.send(&labels, &records);
    }
    for (world, sent) in &sent {
        let mut rows = Reader::open(&kafka, &world.topic("analysis"));
        rows.until("a final row of each case", WAIT, |records| {
            sent.iter().all(|s| records.iter().any(|row| row.json()["request_id"] == s.id.as_str()))
        });
        for it in sent {
            let row = rows
                .records
                .iter()
                .map(Record::json)
                .find(|row| row["request_id"] == it.id.as_str());
            let status = row.expect("it came")["label_status"].clone();
            assert_eq!(status, if it.has_label { "labelled" } else { "missing" }, "{}", it.id);
        }
        let theirs = sent.iter().filter(|s| s.has_label).count();
        let joined = format!("serinus_label_joined_total{{model=\"{}\"}}", world.name);
        let address = run.http_address();
        run.await_condition(&joined, WAIT, || figure(&address, &joined) >= theirs);
    }
    let address = run.http_address();
    assert_eq!(
        figure(&address, "serinus_label_orphaned_total"),
        0,
        "others' labels are no orphans"
    );
    let log = run.stop_and_read();
    assert!(!log.contains(log::ROLE_RESTARTED), "{log}");
}

/// The labels were read before the second model existed.
#[test]
fn a_model_added_to_a_labels_topic_reads_it_from_its_beginning() {
    let Some(kafka) = Kafka::find() else { return };
    let labels = unique("company-labels");
    let topics = format!("  timeout: 5s\n  shadowTimeout: 5s\n  topics: {{labels: {labels}}}");
    let shared = specs::shadow(&topics, "10s");
    let a = World::new(&kafka, "before", &shared);
    let mut run = a.run();
    a.await_phase("Progressing", &mut run);
    let name = format!("{}-later", a.app);
    let b = World { name: name.clone(), ..a.clone() };
    kafka.create_topics(&[(&b.topic("requests"), 4)]);
    // Labels of future requests, between those of another model.
    let soon = crate::kit::clock::unix_ms() + 5_000;
    let of = |world: &World| (0..8).map(|number| world.request(number)).collect::<Vec<Sent>>();
    let (of_a, of_b) = (of(&a), of(&b));
    let all = of_a.iter().zip(&of_b).flat_map(|(one, other)| [one.label(soon), other.label(soon)]);
    kafka.send(&labels, &all.collect::<Vec<Record>>());
    let placed = format!("{}.internal.{}.labels", a.app, a.name);
    let mut placed = Reader::open(&kafka, &placed);
    placed.until("the labels, read for the first model", WAIT, |records| {
        records.iter().filter(|record| record.key.is_some()).count() >= 16
    });
    let file = write(&a, &name, &shared.replace("MODEL", &name));
    let (code, text) = said(&a, &["topics", "create", &file]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&a, &["apply", &file]);
    assert_eq!(code, Some(0), "{text}");
    let _worker = Worker::start(&kafka, &name, "v1", Behavior::default());
    b.send_requests(0, 8);
    let mut rows = Reader::open(&kafka, &b.topic("analysis"));
    rows.until("a row of each case", WAIT, |records| records.len() >= 8);
    for row in rows.records.iter().map(Record::json) {
        assert_eq!(row["label_status"], "labelled", "{row}");
    }
    let log = run.stop_and_read();
    assert!(!log.contains(log::ROLE_RESTARTED), "{log}");
}

#[test]
fn topics_of_two_models_with_one_labels_topic_are_made() {
    let Some(kafka) = Kafka::find() else { return };
    let labels = unique("company-labels");
    let shared = spec(&format!("{{labels: {labels}}}"));
    let worlds = World::several(&kafka, "made", &[("a", shared.clone()), ("b", shared.clone())]);
    let [a, b] = &worlds[..] else { panic!("two models") };
    let files = [a, b].map(|f| write(f, &f.name, &shared.replace("MODEL", &f.name)));
    let (code, text) = said(a, &["topics", "create", &files[0], &files[1]]);
    assert_eq!(code, Some(0), "{text}");
    assert!(kafka.partitions(&labels) > 0);
    let (code, text) = said(a, &["topics", "check", &files[0], &files[1]]);
    assert_eq!(code, Some(0), "{text}");
}

/// Each of these used to be accepted, and then stopped every model or served requests repeatedly.
#[test]
fn topics_of_another_model_are_refused() {
    let Some(kafka) = Kafka::find() else { return };
    let a = World::new(&kafka, "mine", &specs::shadow("  timeout: 5s\n  shadowTimeout: 6s", "3s"));
    let mut run = a.run();
    a.await_phase("Progressing", &mut run);
    let app = a.app.clone();
    let b = |what: &str| format!("{app}-{what}");
    let check = |what: &str, topics: String, field: &str, topic: String| {
        let name = b(what);
        let model = specs::shadow(&format!("  timeout: 5s\n  topics: {topics}"), "3s");
        let model = model.split("---").next().expect("the model comes first");
        let file = write(&a, &name, &model.replace("MODEL", &name));
        for kind in ["requests", "responses", "served", "predictions", "v1.requests"] {
            kafka.create_topics(&[(&format!("{name}.{kind}"), 1)]);
        }
        let (code, text) = said(&a, &["apply", &file]);
        assert_ne!(code, Some(0), "{what}: {text}");
        for word in [&name, &app, field, &topic] {
            assert!(text.contains(word), "{what}: no `{word}` in: {text}");
        }
    };
    let of_a = |kind: &str| a.topic(kind);
    check("b1", format!("{{requests: {}}}", of_a("requests")), "requests", of_a("requests"));
    check("b2", format!("{{responses: {}}}", of_a("responses")), "responses", of_a("responses"));
    check("b3", format!("{{requests: {}}}", of_a("v2.requests")), "requests", of_a("v2.requests"));
    check("b4", format!("{{served: {}}}", of_a("requests")), "served", of_a("requests"));
    check(
        "b5",
        format!("{{predictions: {app}.internal.slots}}"),
        "predictions",
        format!("{app}.internal.slots"),
    );
    check("b6", format!("{{deadLetters: {}}}", of_a("analysis")), "deadLetters", of_a("analysis"));
    // A version of a later rollout whose topic is the request topic of a model.
    let v9 = b("c");
    let text = specs::shadow(
        &format!("  timeout: 5s\n  topics: {{requests: {}}}", of_a("v9.requests")),
        "3s",
    );
    let model = text.split("---").next().expect("the model comes first").replace("MODEL", &v9);
    kafka.create_topics(&[(&of_a("v9.requests"), 1)]);
    let file = write(&a, &v9, &model);
    let (code, text) = said(&a, &["topics", "create", &file]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&a, &["apply", &file]);
    assert_eq!(code, Some(0), "no other model uses it: {text}");
    let rollout = specs::shadow("  timeout: 5s", "3s").replace("MODEL", &app).replace("v2", "v9");
    let rollout = rollout.split("---").nth(1).expect("the rollout comes last");
    let file = write(&a, "v9", &rollout.replace("spec:\n", "spec:\n  onConflict: replace\n"));
    let (code, text) = said(&a, &["apply", &file]);
    assert_ne!(code, Some(0), "{text}");
    assert!(text.contains(&v9) && text.contains(&of_a("v9.requests")), "{text}");
    // The existing models are unaffected.
    let _worker = Worker::start(&kafka, &a.name, "v1", Behavior::default());
    let sent = a.send_requests(0, 8);
    let mut served = Reader::open(&kafka, &a.topic("served"));
    served.until("an answer to each", WAIT, |records| records.len() >= sent.len());
    let log = run.stop_and_read();
    assert!(!log.contains(log::ROLE_RESTARTED), "{log}");
}
