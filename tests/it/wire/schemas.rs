//! Published schemas are fresh, records match them, and written records are read back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};
use serinus::wire::any;
use serinus::wire::avro::Codec;
use serinus::wire::json::Parts;
use serinus::wire::label;
use serinus::wire::label::NotALabel;
use serinus::wire::prediction;
use serinus::wire::schema;
use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus_core::domain::ids::{
    CaseId, ModelName, RequestId, Revision, RolloutName, StageIndex, Version,
};
use serinus_core::domain::label::Label;
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::judge::command::Verb;
use serinus_core::engine::judge::event::Phase;
use serinus_core::plan::rollout::{Format, LabelMap, Source};

const FORMATS: [Format; 2] = [Format::Json, Format::Avro];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn published_schemas_are_fresh() {
    let update = std::env::var_os("UPDATE").is_some();
    for (name, text) in schema::files() {
        let path = folder("schemas").join(&name);
        if update {
            std::fs::write(&path, &text).expect("the folder of schemas can be written");
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == text,
            "schemas/{name} is not what the types say: run `UPDATE=1 cargo test`"
        );
    }
}

#[test]
fn every_published_schema_is_one() {
    for published in schema::PUBLISHED {
        let schema = (published.json_schema)();
        assert!(jsonschema::meta::is_valid(&schema), "{}", published.name);
        if let Some(avro_schema) = published.avro_schema() {
            apache_avro::Schema::parse(avro_schema).expect(published.name);
        }
    }
}

/// The printed form of an enum is the form in its records.
#[test]
fn words_are_those_of_the_records() {
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).ok(), Some(json!(phase.word())));
    }
    for verb in Verb::ALL {
        assert_eq!(serde_json::to_value(verb).ok(), Some(json!(verb.word())));
    }
}

/// Checks an external record against its published schemas: JSON validates, Avro decodes to the same JSON.
pub(crate) fn assert_as_published(name: &str, record: &impl serde::Serialize) {
    static VALIDATORS: LazyLock<BTreeMap<&str, jsonschema::Validator>> =
        LazyLock::new(|| schema::PUBLISHED.iter().map(|s| (s.name, validator(s.name))).collect());
    let json = serde_json::to_value(record).expect("a record is JSON");
    let errors: Vec<String> = VALIDATORS[name].iter_errors(&json).map(|j| j.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new(), "{name}: {json}");
    let codec = codec(name).expect("every record has an Avro schema");
    let bytes = codec.encode_json(&json).unwrap_or_else(|| panic!("{name} in Avro: {json}"));
    assert_eq!(any::json_of(&bytes).as_ref(), Some(&json), "{name}");
}

#[test]
fn every_record_has_both_schemas() {
    let records = [
        "label",
        "prediction",
        "analysis",
        "rollout-metrics",
        "rollout-event",
        "rollout-state",
        "command",
    ];
    for name in records {
        let published = schema::PUBLISHED.iter().find(|s| s.name == name);
        assert!(published.is_some_and(|p| p.avro_schema().is_some()), "{name}");
    }
    assert!(schema::PUBLISHED.iter().all(|s| s.name == "spec" || records.contains(&s.name)));
}

#[test]
fn the_schemas_refuse_what_is_no_such_record() {
    for published in schema::PUBLISHED {
        let validator = validator(published.name);
        for wrong in [json!({}), json!([]), json!("text"), json!({"model": 7})] {
            assert!(!validator.is_valid(&wrong), "{}: {wrong}", published.name);
            if let Some(codec) = (published.codec)() {
                assert_eq!(codec.encode_json(&wrong), None, "{}: {wrong}", published.name);
            }
        }
    }
}

#[test]
fn one_name_means_one_thing_in_all_avro_schemas() {
    fn collect(schema: &Value, named: &mut BTreeMap<String, Value>) {
        match schema {
            Value::Object(parts) => {
                if let Some(Value::String(name)) =
                    parts.get("name").filter(|_| parts.contains_key("fields"))
                {
                    let fields: Vec<&Value> = parts["fields"]
                        .as_array()
                        .expect("a list")
                        .iter()
                        .map(|a| &a["name"])
                        .collect();
                    let fields = json!(fields);
                    let first = named.entry(name.clone()).or_insert_with(|| fields.clone());
                    assert_eq!(first, &fields, "{name}");
                }
                parts.values().for_each(|f| collect(f, named));
            }
            Value::Array(items) => items.iter().for_each(|f| collect(f, named)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut named = BTreeMap::new();
    for published in schema::PUBLISHED {
        if let Some(avro_schema) = published.avro_schema() {
            // Records may write the fields of either shape in any order.
            let mut of_this = BTreeMap::new();
            collect(avro_schema, &mut of_this);
            for (name, fields) in of_this {
                let mut fields: Vec<String> =
                    fields.as_array().expect("a list").iter().map(Value::to_string).collect();
                fields.sort();
                let first = named.entry(name.clone()).or_insert_with(|| fields.clone());
                assert_eq!(first, &fields, "{name} in {}", published.name);
            }
        }
    }
}

fn codec(name: &str) -> Option<&'static Codec> {
    schema::PUBLISHED.iter().find(|s| s.name == name).and_then(|s| (s.codec)())
}

fn validator(name: &str) -> jsonschema::Validator {
    let published = schema::PUBLISHED.iter().find(|s| s.name == name).expect("it is published");
    jsonschema::validator_for(&(published.json_schema)()).expect("it is a schema")
}

#[test]
fn the_examples_are_of_the_schema_of_the_spec() {
    let schema = validator("spec");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder("examples")).expect("there are examples") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("it can be read");
        for document in serde_saphyr::from_multiple::<Value>(&text).expect("it is YAML") {
            let errors: Vec<String> =
                schema.iter_errors(&document).map(|d| d.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
        }
        serinus_core::spec::plan::load(&path.to_string_lossy(), &text)
            .unwrap_or_else(|errors| panic!("{errors}"));
        examples += 1;
    }
    assert!(examples >= 4, "only {examples} examples were found");
}

#[test]
fn the_schema_of_the_spec_refuses_what_the_program_refuses() {
    let schema = validator("spec");
    let model = json!({"apiVersion": "serinus/v1", "kind": "Model", "metadata": {"name": "m"},
        "spec": {"stable": "v1", "timeout": "500ms"}});
    assert!(schema.is_valid(&model));
    for (field, wrong) in [
        ("timeout", json!(500)),
        ("timeuot", json!("5s")),
        ("unit", json!("tail")),
        ("onFailure", json!("panic")),
    ] {
        let mut document = model.clone();
        document["spec"][field] = wrong;
        assert!(!schema.is_valid(&document), "{field}");
        assert!(serinus_core::spec::plan::model_from_json(&document).is_err(), "{field}");
    }
    let mut rollout = model;
    rollout["kind"] = json!("Rollout");
    assert!(!schema.is_valid(&rollout));
}

fn flight() -> Prediction {
    Prediction {
        case: CaseId { partition: 3, offset: 1042 },
        request_id: RequestId::new("r1"),
        rollout: Some(RolloutName::new("flights-v2")),
        revision: Revision(7),
        stage: StageIndex(2),
        unit: Some(Arc::from(&b"N14228"[..])),
        segments: Arc::default(),
        arm: Version::new("v2"),
        propensity: 0.25,
        served: Some(Version::new("v2")),
        outcome: Outcome::Ok,
        requested_at: Timestamp(1),
        routed_at: Timestamp(2),
        served_at: Timestamp(9),
        answers: vec![
            CaseAnswer {
                version: Version::new("v2"),
                role: Role::Serve,
                status: AnswerStatus::Ok,
                latency: Some(Span(6)),
                value: Some(Arc::from(&br#"{"score":0.12}"#[..])),
                error: None,
            },
            CaseAnswer {
                version: Version::new("v1"),
                role: Role::Shadow,
                status: AnswerStatus::Timeout,
                latency: None,
                value: None,
                error: None,
            },
        ],
    }
}

#[test]
fn a_prediction_looks_as_contracted() {
    let bytes = prediction::encode(Format::Json, &ModelName::new("flights"), &flight());
    let written: Value = serde_json::from_slice(&bytes).expect("it is JSON");
    let expected = json!({"request_id":"r1","model":"flights","rollout":"flights-v2","revision":7,"stage":2,"unit":"N14228",
        "arm":"v2","propensity":0.25,"served":{"version":"v2","outcome":"ok"},"requested_at":1,"routed_at":2,"served_at":9,
        "answers":[{"version":"v2","role":"serve","status":"ok","latency_ms":6.0,"value":{"score":0.12}},
                   {"version":"v1","role":"shadow","status":"timeout"}],
        "source":{"partition":3,"offset":1042}});
    assert_eq!(written, expected);
}

fn hex(bytes: &[u8]) -> String {
    let digit = |u: u8| char::from_digit(u32::from(u), 16).expect("it is below 16");
    bytes.iter().flat_map(|i| [digit(i >> 4), digit(i & 15)]).collect()
}

/// The prefix of Avro records: the single-object marker and the schema fingerprint, computed in Python from the published files.
pub(crate) const FINGERPRINTS: [(&str, &str); 7] = [
    ("label", "c301b31588e651e2108a"),
    ("prediction", "c3015f40613552893fa9"),
    ("analysis", "c30123faf69ada0f37d2"),
    ("rollout-metrics", "c3014b1b0cee56fcd5eb"),
    ("rollout-event", "c3013575b22df6902177"),
    ("rollout-state", "c301497a15564dadcf06"),
    ("command", "c301fc069d5262fedfa0"),
];

#[test]
fn the_avro_fingerprints_are_those_that_other_languages_compute() {
    // From Python. A changed fingerprint means a changed schema, which readers of old topics do not know.
    let prediction = prediction::encode(Format::Avro, &ModelName::new("flights"), &flight());
    assert_eq!(hex(&prediction[..10]), "c3015f40613552893fa9");
    let label = label::encode(Format::Avro, &truth(json!({"late": 1})));
    assert_eq!(hex(&label[..10]), "c301b31588e651e2108a");
    for (name, header) in FINGERPRINTS {
        let codec = codec(name).expect("it is published");
        assert_eq!(hex(codec.header()), header, "{name}");
    }
}

#[test]
fn an_avro_prediction_is_bytes_that_other_languages_read() {
    // fastavro decodes this into the fields of `flight`.
    let datum = "0472310e666c69676874730214666c69676874732d76320e04020c4e31343232380000047632000000000000d03f0204763200020412\
                 040476320000020000000000001840021c7b2273636f7265223a302e31327d00000476310206000000000006a410";
    let bytes = prediction::encode(Format::Avro, &ModelName::new("flights"), &flight());
    assert_eq!(hex(&bytes[10..]), datum);
}

prop_compose! {
    fn any_answer()(
        version in "[a-z0-9.]{1,5}",
        role in prop_oneof![Just(Role::Serve), Just(Role::Shadow)],
        status in prop_oneof![
            Just(AnswerStatus::Ok), Just(AnswerStatus::Error), Just(AnswerStatus::Late), Just(AnswerStatus::Timeout)
        ],
        latency in proptest::option::of(0..100_000_i64),
        value in proptest::option::of(prop_oneof![
            Just(b"null".to_vec()), Just(b"\"\\u0000\"".to_vec()), Just(b"[1.0, 1e400 ,{\"a\":[]}]".to_vec()), Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..20),
        ]),
        error in proptest::option::of(".{0,10}"),
    ) -> CaseAnswer {
        CaseAnswer {
            version: Version::new(version), role, status, latency: latency.map(Span),
            // White space around JSON is the only thing that a record does not preserve.
            value: value.map(|v| v.trim_ascii().into()), error: error.map(Arc::from),
        }
    }
}

prop_compose! {
    fn any_prediction()(
        (partition, offset) in (0..i32::MAX, 0..i64::MAX),
        request_id in ".{0,10}",
        rollout in proptest::option::of("[a-z]{1,5}"),
        (revision, stage) in (0..u64::MAX / 2, any::<u32>()),
        unit in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12)),
        segments in proptest::collection::btree_map("[a-z]{1,4}", ".{0,5}", 0..3),
        propensity in 0.0..=1.0_f64,
        served in proptest::option::of("[a-z0-9]{1,3}"),
        outcome in prop_oneof![Just(Outcome::Ok), Just(Outcome::Fallback), Just(Outcome::Default), Just(Outcome::Error)],
        (requested_at, routed_at, served_at) in (any::<i64>(), any::<i64>(), any::<i64>()),
        answers in proptest::collection::vec(any_answer(), 0..4),
    ) -> Prediction {
        Prediction {
            case: CaseId { partition, offset }, request_id: RequestId::new(request_id),
            rollout: rollout.map(RolloutName::from), revision: Revision(revision), stage: StageIndex(stage),
            unit: unit.map(Arc::from), segments: segments.iter().map(|(by, s)| (by.as_str().into(), s.as_str().into())).collect(),
            arm: Version::new("v1"), propensity, served: served.map(Version::from), outcome,
            requested_at: Timestamp(requested_at), routed_at: Timestamp(routed_at), served_at: Timestamp(served_at), answers,
        }
    }
}

proptest! {
    #[test]
    fn a_prediction_is_read_back(written in any_prediction()) {
        let model = ModelName::new("flights");
        let schema = validator("prediction");
        for format in FORMATS {
            let bytes = prediction::encode(format, &model, &written);
            prop_assert_eq!(prediction::decode(&bytes), Ok((model.clone(), written.clone())));
            if format == Format::Json && !bytes.windows(5).any(|i| i == b"1e400") {
                let json: Value = serde_json::from_slice(&bytes).expect("it is JSON");
                prop_assert!(schema.is_valid(&json), "{}", json);
            }
        }
    }

    #[test]
    fn no_bytes_break_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0..400_usize) {
        prop_assert!(prediction::decode(&bytes).is_err());
        let map = usual_map();
        for format in FORMATS {
            let mut prediction = prediction::encode(format, &ModelName::new("m"), &flight());
            if cut < prediction.len() {
                prediction.truncate(cut);
                prop_assert!(prediction::decode(&prediction).is_err());
                prediction.extend_from_slice(&bytes);
                let _total = prediction::decode(&prediction);
            }
            let mut label = label::encode(format, &truth(json!({"late": [1, null]})));
            label.truncate(cut);
            label.extend_from_slice(&bytes);
            let _total = label::decode(&map, Parts { value: Some(&label), ..Parts::default() }, Timestamp(0));
        }
    }
}

fn truth(value: Value) -> Label {
    Label {
        request_id: RequestId::new("r1"),
        value,
        observed_at: Timestamp(5),
        version: 0,
        retract: false,
    }
}

fn usual_map() -> LabelMap {
    LabelMap {
        request_id: Source::Json("/request_id".to_owned()),
        value: "/label".to_owned(),
        observed_at: Some("/observed_at".to_owned()),
    }
}

#[test]
fn a_label_is_read_back() {
    let schema = validator("label");
    let written = [
        truth(json!({"late": 1})),
        truth(json!(0)),
        Label { version: 3, ..truth(json!("x")) },
        Label { version: 4, retract: true, ..truth(Value::Null) },
    ];
    for label in written {
        for format in FORMATS {
            let bytes = label::encode(format, &label);
            let read = label::decode(
                &usual_map(),
                Parts { value: Some(&bytes), ..Parts::default() },
                Timestamp(99),
            );
            assert_eq!(read.as_ref(), Ok(&label));
        }
        let json =
            serde_json::from_slice(&label::encode(Format::Json, &label)).expect("it is JSON");
        assert!(schema.is_valid(&json), "{json}");
    }
}

#[test]
fn a_label_may_stand_anywhere() {
    let map = LabelMap { request_id: Source::Key, value: String::new(), observed_at: None };
    let parts = Parts { key: Some(b"r9"), value: Some(b"0.5"), ..Parts::default() };
    let expected =
        Label { request_id: RequestId::new("r9"), observed_at: Timestamp(99), ..truth(json!(0.5)) };
    assert_eq!(label::decode(&map, parts, Timestamp(99)), Ok(expected));

    let map = LabelMap {
        request_id: Source::Header("id".to_owned()),
        value: "/a/0".to_owned(),
        observed_at: Some("/t".to_owned()),
    };
    let headers = [("id", Some(&b"r8"[..]))];
    let parts =
        Parts { headers: &headers, value: Some(br#"{"a":[true],"t":7.0}"#), ..Parts::default() };
    let expected =
        Label { request_id: RequestId::new("r8"), observed_at: Timestamp(7), ..truth(json!(true)) };
    assert_eq!(label::decode(&map, parts, Timestamp(99)), Ok(expected));
}

#[test]
fn what_is_not_a_label_says_why() {
    let check = |value: Option<&str>, expected: NotALabel| {
        let parts = Parts { value: value.map(str::as_bytes), ..Parts::default() };
        assert_eq!(label::decode(&usual_map(), parts, Timestamp(99)), Err(expected), "{value:?}");
    };
    check(None, NotALabel::Empty);
    check(Some(""), NotALabel::Unreadable);
    check(Some("{"), NotALabel::Unreadable);
    check(Some("7"), NotALabel::NoRequestId);
    check(Some(r#"{"request_id":"","label":1}"#), NotALabel::NoRequestId);
    check(Some(r#"{"request_id":{},"label":1}"#), NotALabel::NoRequestId);
    check(Some(r#"{"request_id":"r"}"#), NotALabel::NoValue);
    check(Some(r#"{"request_id":"r","label":null}"#), NotALabel::NoValue);
    check(Some(r#"{"request_id":"r","label":NaN}"#), NotALabel::BadValue);
    check(Some(r#"{"request_id":"r","label":{"late":[Infinity]}}"#), NotALabel::BadValue);
    for id in ["null", "true", "{}", "[1]", "NaN", "+5", "01", "\"\\ud800\""] {
        check(Some(&format!(r#"{{"request_id":{id},"label":1}}"#)), NotALabel::NoRequestId);
    }
    for time in ["true", "{}", "NaN", "1e999"] {
        let label = format!(r#"{{"request_id":"r","label":1,"observed_at":{time}}}"#);
        check(Some(&label), NotALabel::BadTime);
    }
    for time in ["today", "1377993600", "1377993600000", "2013-09-01T00:00:00Z", ""] {
        let label = format!(r#"{{"request_id":"r","label":1,"observed_at":"{time}"}}"#);
        check(Some(&label), NotALabel::TimeIsText);
    }
    for version in ["2.5", "\"2\"", "9223372036854775808", "18446744073709551616", "-0.5", "{}"] {
        let label = format!(r#"{{"request_id":"r","label":1,"label_version":{version}}}"#);
        check(Some(&label), NotALabel::BadVersion);
    }
    check(Some(r#"{"request_id":"r","label":1,"label_version":-1}"#), NotALabel::BadVersion);
    check(Some(r#"{"request_id":"r","label":1,"retract":"yes"}"#), NotALabel::BadRetract);
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    check(Some(&deep), NotALabel::NoRequestId);
    let deep = format!(r#"{{"request_id":"r","label":{deep}}}"#);
    check(Some(&deep), NotALabel::BadValue);
}

/// Ids of requests and of labels are both read as written.
#[test]
fn ids_are_what_is_written() {
    let read = |label: &str| {
        let parts = Parts { value: Some(label.as_bytes()), ..Parts::default() };
        let label = label::decode(&usual_map(), parts, Timestamp(99)).expect("it is a label");
        let placed = label::encode(Format::Json, &label);
        let parts = Parts { value: Some(&placed), ..Parts::default() };
        assert_eq!(label::decode(&usual_map(), parts, Timestamp(99)).as_ref(), Ok(&label));
        label
    };
    let source = Source::Json("/request_id".to_owned());
    let case = CaseId { partition: 0, offset: 1 };
    let ids = [
        "12345678901234567890123",
        "1.50",
        "12345.0",
        "12345",
        "1e3",
        "-0",
        "0.1000000000000000055511151231257827",
        "1e400",
    ];
    for id in ids {
        for written in [id.to_owned(), format!("\"{id}\"")] {
            let record = format!(r#"{{"x":NaN,"request_id": {written} ,"label":{{"late":1}}}}"#);
            let parts = Parts { value: Some(record.as_bytes()), ..Parts::default() };
            let label = read(&record);
            assert_eq!(label.request_id, parts.request_id(Some(&source), "t", case), "{written}");
            assert_eq!(label.request_id.as_str(), id);
            assert_eq!(label.value, json!({"late": 1}));
        }
    }
    assert_eq!(read(r#"{"request_id":"\u0031","label":1}"#).request_id.as_str(), "1");
    assert_eq!(read(r#"{"request_id":1,"request_id":2,"label":1}"#).request_id.as_str(), "2");
    assert_eq!(read(r#"{"request_id":1,"label":1,"label_version":1e3}"#).version, 1000);
    let most = read(r#"{"request_id":1,"label":1,"label_version":9223372036854775807}"#);
    assert_eq!(most.version, 9_223_372_036_854_775_807);
    assert_eq!(read(r#"{"request_id":1,"label":1,"observed_at":1.9e3}"#).observed_at.0, 1900);
}

#[test]
fn a_time_in_another_unit_names_the_unit() {
    const NOW: i64 = 1_764_288_000_000;
    let read = |time: &str, recorded_at: i64| {
        let label = format!(r#"{{"request_id":"r","label":1{time}}}"#);
        let parts = Parts { value: Some(label.as_bytes()), ..Parts::default() };
        let times = (Timestamp(recorded_at), Timestamp(NOW));
        label::decode_foreign(&usual_map(), parts, times)
    };
    let check = |time: &str, expected: &str| {
        let why = read(&format!(r#","observed_at":{time}"#), NOW).expect_err(time).reason();
        assert!(why.starts_with("the label's time is ") && why.contains(expected), "{time}: {why}");
    };
    check(
        "1377993600",
        "before the year 2000 as Unix milliseconds (ms): 1377993600; it looks like seconds (s)",
    );
    check("1377993600.25", "it looks like seconds (s)");
    check("1764288000", "it looks like seconds (s)");
    check("1.764288e9", "it looks like seconds (s)");
    check(
        "1764288000000000",
        "more than a day ahead as Unix milliseconds (ms): 1764288000000000; it looks like microseconds (us)",
    );
    check("1764288000000000000", "it looks like nanoseconds (ns)");
    check("1377993600000000000", "it looks like nanoseconds (ns)");
    for time in ["0", "-1", "946684799", "-9223372036854775808", "-1e300"] {
        check(time, "before the year 2000");
        assert!(
            !read(&format!(r#","observed_at":{time}"#), NOW)
                .expect_err(time)
                .reason()
                .contains("looks")
        );
    }
    for time in [(NOW + 86_400_001).to_string(), i64::MAX.to_string(), "1e300".to_owned()] {
        check(&time, "more than a day ahead");
    }
    for time in
        ["946684800000".to_owned(), (NOW + 86_400_000).to_string(), "1377993600000.75".to_owned()]
    {
        assert!(read(&format!(r#","observed_at":{time}"#), NOW).is_ok(), "{time}");
    }
    // Without a time in the label, the record's time counts.
    assert_eq!(read("", NOW - 5).expect("it is a label").observed_at.0, NOW - 5);
    assert_eq!(read(r#","observed_at":null"#, NOW).expect("it is a label").observed_at.0, NOW);
    for recorded_at in [0, 1_764_288_000] {
        let why = read("", recorded_at).expect_err("the record is of 1970").reason();
        assert!(why.starts_with("the time of the label's record"), "{why}");
    }
}
