//! The reader against onnxruntime's and scikit-learn's own answers, and against bytes that are no model.

use std::fmt::Write;
use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use serde_json::Value;

use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::model::{MODEL_BYTES_MAX, Model, Prediction};

const FLIGHTS_V1: &[u8] = include_bytes!("../../demo/data/flights_v1.onnx");
const FLIGHTS_V2: &[u8] = include_bytes!("../../demo/data/flights_v2.onnx");
const TOLERANCE: f64 = 1e-6;

/// What onnxruntime answers to small models; `make_cases.py` made it.
fn cases() -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(&include_bytes!("testdata/cases.json.gz")[..])
        .read_to_string(&mut text)
        .expect("the cases are unpacked");
    serde_json::from_str(&text).expect("the cases are JSON")
}

fn bytes_of(case: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(case["model"].as_str().expect("a model")).expect("base64")
}

/// `null` stands for a value that is missing.
fn floats(list: &Value) -> Vec<f64> {
    let list = list.as_array().expect("a list of numbers");
    list.iter().map(|l| l.as_f64().unwrap_or(f64::NAN)).collect()
}

#[test]
fn answers_are_those_of_onnxruntime() {
    let (mut wrong, mut compared) = (String::new(), 0);
    let mut out = Prediction::default();
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let model = match Model::from_bytes(&bytes_of(&case)) {
            Ok(model) => model,
            // Of the operators in the cases, the one that is not known here.
            Err(OnnxError::Operator { operator, .. }) if operator == "Normalizer" => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        for (at, row) in case["rows"].as_array().expect("rows").iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "the cases hold 32-bit floats")]
            let row: Vec<f32> = floats(row).into_iter().map(|r| r as f32).collect();
            model.predict(&row, &mut out).expect("the row fits");
            let expected = floats(&case["probabilities"][at]);
            let label = case["labels"][at].as_i64().expect("a label");
            let same = expected.len() == out.probabilities.len()
                && expected.iter().zip(&out.probabilities).all(|(one, other)| close(*one, *other));
            compared += 1;
            if !same || out.label != label {
                writeln!(
                    wrong,
                    "{name}, row {at}: {label} {expected:?} but {} {:?}",
                    out.label, out.probabilities
                )
                .expect("a String takes all that is written");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(compared > 500, "{compared} rows");
}

/// Within the tolerance, relative for the large scores that an untransformed model may give.
fn close(expected: f64, found: f32) -> bool {
    (expected - f64::from(found)).abs() <= TOLERANCE * expected.abs().max(1.0)
}

#[test]
fn the_flights_models_answer_as_scikit_learn_does() {
    let (v1, v2) = (Model::from_bytes(FLIGHTS_V1), Model::from_bytes(FLIGHTS_V2));
    let (v1, v2) = (v1.expect("v1 is read"), v2.expect("v2 is read"));
    let mut lines = include_str!("testdata/flights_reference.csv").lines();
    assert!(lines.next().expect("a head").ends_with(",p_v2,p_v1"));
    let (mut rows, mut out) = (0, Prediction::default());
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let features: Vec<f32> = cells[..13].iter().map(|c| c.parse().expect("a number")).collect();
        for (model, expected) in [(&v2, cells[13]), (&v1, cells[14])] {
            let expected: f64 = expected.parse().expect("a number");
            model.predict(&features, &mut out).expect("13 features");
            let off = (f64::from(out.score()) - expected).abs();
            assert!(off <= TOLERANCE, "row {rows}: {} but {expected}", out.score());
            assert_eq!(out.label, i64::from(expected > 0.5), "row {rows}");
        }
        rows += 1;
    }
    assert_eq!(rows, 64);
}

#[test]
fn a_model_is_read_from_its_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/data/flights_v1.onnx");
    assert_eq!(Model::load(path.as_ref()).expect("the file is read").inputs(), 13);
    let error = Model::load("no/such.onnx".as_ref()).expect_err("there is no such file");
    assert_eq!(error.to_string(), "cannot read `no/such.onnx`");
}

#[test]
fn another_number_of_features_is_refused() {
    let model = Model::from_bytes(FLIGHTS_V1).expect("v1 is read");
    let error = model.predict(&[0.0; 12], &mut Prediction::default()).expect_err("one is missing");
    assert_eq!(error.to_string(), "12 features given, but the model takes 13");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let check = |bytes: &[u8], expected: &str| {
        let error = Model::from_bytes(bytes).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let multinomial =
        cases().into_iter().find(|c| c["name"] == "logistic regression, three classes");
    check(
        &bytes_of(&multinomial.expect("the case is there")),
        "operator `Normalizer` of domain `ai.onnx.ml`, opset 1, is not supported",
    );
    // Changes of the same length, so that all lengths in the file stay right.
    let changed = |from: &[u8], to: &[u8]| {
        let mut bytes = FLIGHTS_V2.to_vec();
        let places: Vec<usize> =
            (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
        bytes
    };
    check(
        &changed(b"TreeEnsembleClassifier", b"TreeEnsembleRegression"),
        "operator `TreeEnsembleRegression` of domain",
    );
    check(
        &changed(b"\n\nai.onnx.ml\x10\x01", b"\n\nai.onnx.ml\x10\x05"),
        "`ai.onnx.ml`, opset 5, is not supported",
    );
    check(
        &changed(b"\n\nai.onnx.ml\x10\x01", b"\n\nai.onnx.mx\x10\x01"),
        "`ai.onnx.ml`, opset 0, is not supported",
    );
    check(
        &changed(b"LOGISTIC", b"LOGISTIK"),
        "attribute `post_transform`: `LOGISTIK` is not supported",
    );
    check(
        &changed(b"BRANCH_LEQ", b"BRANCH_LEX"),
        "attribute `nodes_modes`: `BRANCH_LEX` is not supported",
    );
    check(&changed(b"base_values", b"base_valuex"), "attribute `base_valuex`: is not supported");
    check(
        &changed(b"class_weights", b"class_weightz"),
        "attribute `class_ids`: has 900 members, its neighbours 0",
    );
    check(&changed(b"\x01X\x12\x0c", b"\x01Y\x12\x0c"), "takes `X`, which nothing before it gives");
    check(&changed(b"\n\x02\x08\r", b"\n\x02\x08\0"), "does not say how many features it has");
    check(
        &changed(b"probabilities\x12", b"probabilitiez\x12"),
        "output `probabilitiez` is not the classifier's",
    );
}

#[test]
fn what_is_no_model_is_refused() {
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(Model::from_bytes(bytes).expect_err(expected).to_string(), expected);
    };
    check(b"", "not an ONNX model: ModelProto: it has no graph");
    check(b"{\"a\": 1}", "not an ONNX model: ModelProto: a wire type is unknown");
    check(&[0x3a, 0], "graph: one input is taken, not 0: []");
    check(&[0x3a, 0, 0x3a, 0], "not an ONNX model: ModelProto: it has two graphs");
    check(&vec![0; MODEL_BYTES_MAX + 1], "model is over the limit of 67108864 bytes");
    // A graph of many empty nodes: two bytes each, far more in memory.
    let mut many = vec![0x3a, 0x80, 0x20];
    many.extend([0x0a, 0].repeat(0x1000 / 2));
    check(&many, "not an ONNX model: GraphProto: a list in it has over 256 members");
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    // Its last 12 bytes import operators of the default domain, of which this model has none.
    let needed = FLIGHTS_V1.len() - 12;
    for len in 0..needed {
        assert!(Model::from_bytes(&FLIGHTS_V1[..len]).is_err(), "cut at {len} of {needed}");
    }
    assert!(Model::from_bytes(&FLIGHTS_V1[..needed]).is_ok());
    for len in (0..FLIGHTS_V2.len()).step_by(97) {
        survives(&FLIGHTS_V2[..len]);
    }
}

/// Reads the bytes and, should they be a model, asks it: neither may panic or run on.
fn survives(bytes: &[u8]) {
    if let Ok(model) = Model::from_bytes(bytes) {
        let mut out = Prediction::default();
        for value in [0.0, -1e30, f32::NAN] {
            if model.inputs() < 10_000 {
                model.predict(&vec![value; model.inputs()], &mut out).expect("the row fits");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_model_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        survives(&bytes);
        // The same as a graph, as a node in it, and as an attribute of one.
        for wrappers in [&[0x3a][..], &[0x0a, 0x3a], &[0x2a, 0x0a, 0x3a]] {
            let mut wrapped = bytes.clone();
            for tag in wrappers {
                // The length as two bytes of seven bits.
                let low = u8::try_from(wrapped.len() % 128).expect("seven bits");
                let high = u8::try_from(wrapped.len() / 128).expect("under 16 KiB");
                wrapped.splice(0..0, [*tag, low | 0x80, high]);
            }
            survives(&wrapped);
        }
    }

    #[test]
    fn damaged_models_are_models_or_errors(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = SMALL_MODELS.with(|models| models[which.index(models.len())].clone());
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }
}

thread_local! {
    static SMALL_MODELS: Vec<Vec<u8>> =
        cases().iter().map(bytes_of).chain([FLIGHTS_V1.to_vec()]).collect();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_large_models_are_models_or_errors(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = FLIGHTS_V2.to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&bytes);
    }
}
