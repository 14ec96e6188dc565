//! Every decoder on arbitrary bytes: it never panics, and every decoded record encodes to the same record.
//!
//! Real records are truncated, flipped and spliced with a seed that a failure prints; `SERINUS_FUZZ_SEED` repeats it and `SERINUS_FUZZ_ROUNDS`
//! sets the number of rounds. `make fuzz` runs the same decoders guided by coverage.

use std::hash::{BuildHasher, RandomState};

use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use serinus::wire::analysis::AnalysisRecord;
use serinus::wire::label;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::Effect;
use serinus_core::plan::rollout::Format;

use crate::fuzzed::analyst_history::{Record, Step, effects_of, file_of, history, lane};
use crate::fuzzed::decode::DECODERS;
use crate::fuzzed::{Target, spec};

/// Every decoder with valid records.
fn targets() -> Vec<(&'static str, Target, Vec<Vec<u8>>)> {
    let spec_files = vec![
        include_bytes!("../../../examples/model.yaml").to_vec(),
        include_bytes!("../../../examples/canary.yaml").to_vec(),
    ];
    let records = DECODERS.map(|(name, target)| (name, target, records(name)));
    let mut targets = Vec::from(records);
    targets.push(("spec", spec::run, spec_files));
    targets
}

fn records(decoder: &str) -> Vec<Vec<u8>> {
    let text = |all: &[&str]| all.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>();
    let position = json!({"phase": "Progressing", "rollout": "m-v2", "stage": 0, "revision": 2, "stable": "v1", "salt": "s",
        "shares": {"v2": 0.25}, "shadows": {}, "slices": [["v2", 0.5]]});
    let event = json!({"rollout": "m-v2", "model": "m", "sequence": 3, "at": 1, "actor": "judge", "command_id": null,
        "verdict": "advance", "reason": "because", "from": null, "to": position, "evidence": null,
        "positions": [["m.predictions", 0, 5]]});
    let case = json!({"request_id": "r1", "model": "m", "rollout": "m-v2", "revision": 7, "stage": 2, "unit": "u", "arm": "v2",
        "propensity": 0.25, "served": {"version": "v2", "outcome": "ok"}, "requested_at": 1, "routed_at": 2, "served_at": 9,
        "answers": [{"version": "v2", "role": "serve", "status": "ok", "latency_ms": 6.1, "value": {"score": 0.12}},
                    {"version": "v1", "role": "shadow", "status": "timeout"}],
        "source": {"partition": 3, "offset": 1042}});
    let partial = json!({"model": "m", "rollout": "m-v2", "partition": 0, "tick": 1000, "clocks": [1, 2], "labels_read": true,
        "idle": false, "turn": 3, "inputs": [4, 5], "lag": 0, "arms": [], "scores": [], "contrasts": [], "units": []});
    let label = r#"{"request_id":"r1","label":{"late":1},"observed_at":1,"label_version":2}"#;
    match decoder {
        "command" => text(&[
            r#"{"id":"c","model":"m","rollout":"m-v2","verb":"pause","by":"ann","reason":"x","expect_revision":7}"#,
        ]),
        "event" => text(&[&event.to_string()]),
        "journal" => {
            text(&[r#"{"turn":1,"now":2,"revision":3,"requests":4,"responses":5,"open":6}"#])
        }
        "analyst journal" => text(&[
            r#"{"turn":1,"now":2,"predictions":3,"labels":4,"lag":[0,0],"sources":8,"known":2,"checkpoint":{"predictions":{"seen":1,"arrived":2,"reached":3},"labels":{"seen":null,"arrived":null,"reached":0},"idle":false,"ticks":{"m-v2":5}}}"#,
        ]),
        "judge journal" => text(&[
            r#"{"model":"m","now":1,"told":{"open":{"partitions":8,"sequence":0}}}"#,
            r#"{"model":"m","now":1,"told":{"command":{"partition":0,"offset":3}}}"#,
            r#"{"model":"m","now":1,"told":"silence"}"#,
        ]),
        "watermark" => text(&[r#"{"source":1,"said_at":2,"reached":3,"behind":true}"#]),
        "partial" => text(&[&partial.to_string()]),
        "metrics" | "state" => text(&["{}"]),
        "analysis" => vec![row()],
        "snapshot" => vec![snapshot()],
        "model" => vec![include_bytes!("../../../src/demo/data/flights_v1.onnx").to_vec()],
        "prediction" => text(&[&case.to_string()]),
        "label" => text(&[label]),
        "offset's metadata" => text(&["s2 7 1700000000000 12 3 9 6"]),
        "token" | "answer" => text(&["3.1042.1.1377990000500"]),
        "any" => text(&[r#"{"a":[1,2.5,"x"]}"#]),
        "avro" => vec![avro_label()],
        other => panic!("no records for {other}"),
    }
}

/// A case that waits for its label, then has it.
fn labelled_history() -> Vec<Record> {
    history(&[
        Step::Case { wait_ms: 0, age_ms: 0, fails: 5, score: 90, is_twin: false },
        Step::Label { wait_ms: 10, of: 3, late: 1, version: 1, age_ms: 0, retract: false },
    ])
}

fn row() -> Vec<u8> {
    let row = effects_of(&labelled_history(), 0).into_iter().find_map(|t| match t {
        Effect::Row(row) => Some(AnalysisRecord::from(&*row).write()),
        Effect::Partial(_) | Effect::Refuse { .. } | Effect::Count(..) => None,
    });
    row.expect("the case is mature in the end")
}

fn snapshot() -> Vec<u8> {
    let mut lane = lane();
    for record in labelled_history() {
        lane.handle(record.now, record.event, &mut Vec::new());
    }
    assert_eq!(lane.entries().count(), 1, "it waits");
    file_of(&lane, 2)
}

fn avro_label() -> Vec<u8> {
    let label = Label {
        request_id: "r1".into(),
        value: json!({"late": 1}),
        observed_at: Timestamp(1),
        version: 2,
        retract: false,
    };
    label::encode(Format::Avro, &label)
}

#[test]
fn no_decoder_panics_and_what_is_read_is_written_the_same() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |u| u.parse().expect("it is a whole number"))
    };
    let seed = number("SERINUS_FUZZ_SEED", RandomState::new().hash_one(0) % 1_000_000);
    let rounds = number("SERINUS_FUZZ_ROUNDS", 1500);
    // Printed with a failure.
    println!("SERINUS_FUZZ_SEED={seed}");
    let mut random = Random::seed_from_u64(seed);
    for (name, target, records) in targets() {
        let read = records.iter().filter(|r| target(r)).count();
        let is_read = read == records.len() || ["metrics", "state"].contains(&name);
        assert!(is_read, "{name}: {read} of {} records are read", records.len());
        for _ in 0..rounds {
            let record = &records[random.random_range(0..records.len())];
            target(&mutated(record, &mut random));
        }
    }
}

/// Truncates, flips, duplicates and splices.
fn mutated(record: &[u8], random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551615",
        b"-9223372036854775808",
        b"{}",
        b"[]",
        b"\"\"",
        b"\xff",
        b"\0",
        b"true",
        b"\xC3\x01",
    ];
    let mut bytes = record.to_vec();
    for _ in 0..random.random_range(1..6) {
        let len = bytes.len().max(1);
        let (a, b) = (random.random_range(0..len), random.random_range(0..len));
        let (from, to) = (a.min(b).min(bytes.len()), a.max(b).min(bytes.len()));
        match random.random_range(0..6) {
            0 => bytes.truncate(to),
            1 => drop(bytes.drain(from..to.min(from + 40))),
            2 if from < bytes.len() => bytes[from] ^= 1 << random.random_range(0..8),
            3 => {
                let part = bytes[from..to.min(from + 200)].to_vec();
                bytes.splice(from..from, part);
            }
            4 => {
                // Replaces one number or word with another.
                let is_digit = |u: &u8| u.is_ascii_digit();
                let start = bytes[from..].iter().position(is_digit).map_or(from, |f| from + f);
                let end = bytes[start..]
                    .iter()
                    .position(|s| !is_digit(s))
                    .map_or(bytes.len(), |l| start + l);
                let word = WORDS[random.random_range(0..WORDS.len())];
                bytes.splice(start..end, word.iter().copied());
            }
            _ => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                bytes.splice(from..from, word.iter().copied());
            }
        }
    }
    bytes
}
