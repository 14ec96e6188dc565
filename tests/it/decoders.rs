//! Every decoder on bytes that nobody meant for it: it never panics, and what it reads it writes and reads the same.
//!
//! Real records are cut, flipped and spliced, from a seed that a failure prints; `SERINUS_FUZZ_SEED` repeats it and `SERINUS_FUZZ_ROUNDS` goes on for
//! longer.

use std::hash::{BuildHasher, RandomState};

use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use serinus::domain::time::Timestamp;
use serinus::spec::plan::load;
use serinus::strategy::stage::{Format, LabelMap, Source};
use serinus::wire::any::json_of;
use serinus::wire::command::CommandRecord;
use serinus::wire::event::EventRecord;
use serinus::wire::headers::{read_answer, read_token};
use serinus::wire::journal::{AnalystTurn, JudgeStep, ReplayStart, ServingTurn};
use serinus::wire::json::Parts;
use serinus::wire::mark::MarkRecord;
use serinus::wire::metrics::MetricsRecord;
use serinus::wire::partial::PartialRecord;
use serinus::wire::state::StateRecord;
use serinus::wire::{label, prediction};
use serinus::worker::onnx::model::Model;

/// Takes any bytes; returns whether they were a record of its kind.
type Target = fn(&[u8]) -> bool;

/// Reads, and holds what was read to the law: written and read again it is the same.
macro_rules! target {
    ($record:ty) => {
        |bytes| {
            let Ok(read) = <$record>::read(bytes) else { return false };
            let again = <$record>::read(&read.write()).expect("what was written can be read");
            assert_eq!(again, read, "read, written and read again");
            true
        }
    };
}

// A new decoder: its line here, with records that it reads.
#[expect(clippy::too_many_lines, reason = "it is one straight list")]
fn targets() -> Vec<(&'static str, Target, Vec<Vec<u8>>)> {
    let text = |all: &[&str]| all.iter().map(|it| it.as_bytes().to_vec()).collect::<Vec<_>>();
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
    vec![
        (
            "command",
            target!(CommandRecord),
            text(&[
                r#"{"id":"c","model":"m","rollout":"m-v2","verb":"pause","by":"ann","reason":"x","expect_revision":7}"#,
            ]),
        ),
        ("event", target!(EventRecord), vec![event.to_string().into_bytes()]),
        (
            "journal",
            target!(ServingTurn),
            text(&[r#"{"turn":1,"now":2,"revision":3,"requests":4,"responses":5,"open":6}"#]),
        ),
        (
            "analyst journal",
            target!(AnalystTurn),
            text(&[
                r#"{"turn":1,"now":2,"predictions":3,"labels":4,"lag":[0,0],"sources":8,"known":2,"checkpoint":{"predictions":{"seen":1,"arrived":2,"reached":3},"labels":{"seen":null,"arrived":null,"reached":0},"idle":false,"ticks":{"m-v2":5}}}"#,
            ]),
        ),
        (
            "judge journal",
            target!(JudgeStep),
            text(&[
                r#"{"model":"m","now":1,"told":{"open":{"partitions":8,"sequence":0}}}"#,
                r#"{"model":"m","now":1,"told":{"command":{"partition":0,"offset":3}}}"#,
                r#"{"model":"m","now":1,"told":"silence"}"#,
            ]),
        ),
        (
            "mark",
            target!(MarkRecord),
            text(&[r#"{"source":1,"said_at":2,"reached":3,"behind":true}"#]),
        ),
        ("partial", partials, vec![partial.to_string().into_bytes()]),
        ("metrics", |bytes| MetricsRecord::read(bytes).is_ok(), text(&["{}"])),
        ("state", |bytes| StateRecord::read(bytes).is_ok(), text(&["{}"])),
        (
            "prediction",
            |bytes| prediction::decode(bytes).is_ok(),
            vec![case.to_string().into_bytes()],
        ),
        (
            "label",
            labels,
            text(&[r#"{"request_id":"r1","label":{"late":1},"observed_at":1,"label_version":2}"#]),
        ),
        ("offset's metadata", metadata, text(&["s2 7 1700000000000 12 3 9 6"])),
        ("token", tokens, text(&["3.1042.1.1377990000500"])),
        (
            "answer",
            |bytes| {
                read_answer(
                    [("serinus-case", Some(bytes)), ("serinus-version", Some(bytes))].into_iter(),
                    None,
                )
                .is_ok()
            },
            text(&["3.1042.1.1377990000500"]),
        ),
        ("any", |bytes| json_of(bytes).is_some(), text(&[r#"{"a":[1,2.5,"x"]}"#])),
        (
            "spec",
            specs,
            vec![
                include_bytes!("../../examples/model.yaml").to_vec(),
                include_bytes!("../../examples/canary.yaml").to_vec(),
            ],
        ),
        (
            "onnx",
            |bytes| Model::from_bytes(bytes).is_ok(),
            vec![include_bytes!("../../src/demo/data/flights_v1.onnx").to_vec()],
        ),
    ]
}

fn partials(bytes: &[u8]) -> bool {
    let Ok(record) = PartialRecord::read(bytes) else { return false };
    // A record of the right shape may still hold sums that are none.
    record.partial().is_ok()
}

fn labels(bytes: &[u8]) -> bool {
    let map = LabelMap {
        request_id: Source::Json("/request_id".to_owned()),
        value: "/label".to_owned(),
        observed_at: Some("/observed_at".to_owned()),
    };
    let parts = |value| Parts { key: None, headers: &[], value: Some(value) };
    let Ok(read) = label::decode(&map, parts(bytes), Timestamp(5)) else { return false };
    let written = label::encode(Format::Json, &read);
    let again = label::decode(&map, parts(&written), Timestamp(5)).expect("it was written");
    assert_eq!(again, read);
    true
}

fn metadata(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some(read) = ReplayStart::from_metadata(&text) else { return false };
    assert_eq!(ReplayStart::from_metadata(&read.to_metadata()), Some(read));
    true
}

fn tokens(bytes: &[u8]) -> bool {
    let Some(token) = read_token(bytes) else { return false };
    assert_eq!(token.to_string().as_bytes(), bytes, "only what we write is read");
    true
}

fn specs(bytes: &[u8]) -> bool {
    load("fuzzed.yaml", &String::from_utf8_lossy(bytes)).is_ok()
}

#[test]
fn no_decoder_panics_and_what_is_read_is_written_the_same() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |it| it.parse().expect("it is a whole number"))
    };
    let seed = number("SERINUS_FUZZ_SEED", RandomState::new().hash_one(0) % 1_000_000);
    let rounds = number("SERINUS_FUZZ_ROUNDS", 1500);
    // Shown with a failure.
    println!("SERINUS_FUZZ_SEED={seed}");
    let mut random = Random::seed_from_u64(seed);
    for (name, target, records) in targets() {
        let read = records.iter().filter(|it| target(it)).count();
        let is_read = read == records.len() || ["metrics", "state"].contains(&name);
        assert!(is_read, "{name}: {read} of {} records are read", records.len());
        for _ in 0..rounds {
            let record = &records[random.random_range(0..records.len())];
            target(&mutated(record, &mut random));
        }
    }
}

/// Cuts, flips, doubles and splices.
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
                // A number, or a word, in the place of another.
                let is_digit = |it: &u8| it.is_ascii_digit();
                let start = bytes[from..].iter().position(is_digit).map_or(from, |it| from + it);
                let end = bytes[start..]
                    .iter()
                    .position(|it| !is_digit(it))
                    .map_or(bytes.len(), |it| start + it);
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
