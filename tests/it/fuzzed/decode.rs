//! Any bytes as records of every kind: no decoder panics, and every decoded record encodes to the same record.

use serinus::wire::analysis::AnalysisRecord;
use serinus::wire::any::json_of;
use serinus::wire::command::CommandRecord;
use serinus::wire::event::EventRecord;
use serinus::wire::headers::{read_answer, read_token};
use serinus::wire::journal::{AnalystTurn, JudgeStep, ReplayStart, ServingTurn};
use serinus::wire::json::Parts;
use serinus::wire::label;
use serinus::wire::metrics::MetricsRecord;
use serinus::wire::partial::PartialRecord;
use serinus::wire::prediction;
use serinus::wire::schema::PUBLISHED;
use serinus::wire::snapshot;
use serinus::wire::state::StateRecord;
use serinus::wire::watermark::WatermarkRecord;
use serinus::worker::onnx::model::{Model, Prediction};
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::{Format, LabelMap, Source};

use crate::fuzzed::{Target, analyst_history};

/// Decodes, and asserts that encoding and decoding again gives the same value.
macro_rules! record {
    ($record:ty) => {
        |bytes| {
            let Ok(read) = <$record>::read(bytes) else { return false };
            let again = <$record>::read(&read.write()).expect("what was written can be read");
            assert_eq!(again, read, "read, written and read again");
            true
        }
    };
}

// A new decoder: append its line, because the corpus selects decoders by index, and add sample records to `decoders.rs`.
pub(crate) const DECODERS: [(&str, Target); 19] = [
    ("command", record!(CommandRecord)),
    ("event", record!(EventRecord)),
    ("journal", record!(ServingTurn)),
    ("analyst journal", record!(AnalystTurn)),
    ("judge journal", record!(JudgeStep)),
    ("watermark", record!(WatermarkRecord)),
    ("partial", partials),
    ("metrics", record!(MetricsRecord)),
    ("state", record!(StateRecord)),
    ("prediction", predictions),
    ("label", labels),
    ("offset's metadata", metadata),
    ("token", tokens),
    ("answer", answers),
    ("any", |bytes| json_of(bytes).is_some()),
    ("analysis", record!(AnalysisRecord)),
    ("avro", avro),
    ("snapshot", snapshots),
    ("model", models),
];

/// The first byte selects the decoder, `a` for the first; the rest is the record.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((nth, record)) = bytes.split_first() else { return false };
    let decoder = DECODERS.get(usize::from(nth.wrapping_sub(b'a')));
    decoder.is_some_and(|(_, target)| target(record))
}

/// Answers only need to exist and be repeatable; their correctness is tested with real models.
fn models(bytes: &[u8]) -> bool {
    let Ok(model) = Model::from_bytes(bytes) else { return false };
    // A few bytes can describe a model of any width; such a model is not evaluated.
    let Some(features) = [0.0, 0.5, -1.0].repeat(100).get(..model.inputs()).map(<[f32]>::to_vec)
    else {
        return true;
    };
    let asked = |mut out: Prediction| {
        model.predict(&features, &mut out).expect("as many features as it takes");
        out
    };
    let first = asked(Prediction::default());
    let bits = |b: &Prediction| b.probabilities.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
    for it in [asked(Prediction::default()), asked(first.clone())] {
        assert_eq!((it.label, bits(&it)), (first.label, bits(&first)), "asked again");
    }
    true
}

fn snapshots(bytes: &[u8]) -> bool {
    let read = |bytes: &[u8]| {
        let mut lane = analyst_history::lane();
        let place =
            snapshot::SnapshotReader::open(bytes).and_then(|o| o.read_into(&mut lane)).ok()?;
        Some((place, lane))
    };
    let Some((place, lane)) = read(bytes) else { return false };
    let mut written = Vec::new();
    snapshot::write(&mut written, &place, &lane).expect("memory takes it");
    let (again, same) = read(&written).expect("what was written can be read");
    assert_eq!((again, same.save()), (place, lane.save()), "read, written and read again");
    assert!(same.entries().eq(lane.entries()), "what is pending, read, written and read again");
    true
}

fn partials(bytes: &[u8]) -> bool {
    let Ok(record) = PartialRecord::read(bytes) else { return false };
    let again = PartialRecord::read(&record.write()).expect("what was written can be read");
    assert_eq!(again, record, "read, written and read again");
    // A well-formed record may hold invalid sums.
    let Ok(partial) = record.partial() else { return false };
    let again =
        PartialRecord::from(&partial).partial().expect("sums can be read that were written");
    assert_eq!(again, partial, "the sums of a record of the sums");
    true
}

fn predictions(bytes: &[u8]) -> bool {
    let Ok((model, read)) = prediction::decode(bytes) else { return false };
    for format in [Format::Json, Format::Avro] {
        let written = prediction::encode(format, &model, &read);
        let again = prediction::decode(&written).expect("what was written can be read");
        assert_eq!(again, (model.clone(), read.clone()), "read, written and read again");
    }
    true
}

fn labels(bytes: &[u8]) -> bool {
    let map = LabelMap {
        request_id: Source::Json("/request_id".to_owned()),
        value: "/label".to_owned(),
        observed_at: Some("/observed_at".to_owned()),
    };
    let read = |bytes: &[u8]| {
        let parts = Parts { key: None, headers: &[], value: Some(bytes) };
        label::decode(&map, parts, Timestamp(5))
    };
    let Ok(label) = read(bytes) else { return false };
    for format in [Format::Json, Format::Avro] {
        let written = label::encode(format, &label);
        let again = read(&written).expect("what was written can be read");
        assert_eq!(again, label, "read, written and read again");
    }
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

fn answers(bytes: &[u8]) -> bool {
    let headers = [("serinus-case", Some(bytes)), ("serinus-version", Some(bytes))];
    read_answer(headers.into_iter(), None).is_ok()
}

fn avro(bytes: &[u8]) -> bool {
    let mut is_any = false;
    for published in PUBLISHED {
        let (name, Some(codec)) = (published.name, (published.codec)()) else { continue };
        let Some(read) = codec.decode_json(bytes) else { continue };
        is_any = true;
        let written = codec.encode_json(&read).unwrap_or_else(|| panic!("{name}: {read}"));
        assert_eq!(codec.decode_json(&written), Some(read), "{name}: read, written and read again");
    }
    is_any
}
