//! The three acts: their days, and the specs of their rollouts.

use crate::cli::error::CliError;
use crate::demo::flights::{FEATURES, MODEL_V1, MODEL_V2};
use crate::worker::bridge::{Predictor, WorkerError};
use crate::worker::features::FeatureList;
use crate::worker::onnx::model::Model;
use serinus_core::spec::plan::{Document, load};

/// 2013-09-01T04:00:00Z: midnight in New York.
const BEGIN_MS: i64 = 1_378_008_000_000;
const DAY_MS: i64 = 86_400_000;
const ACT_DAYS: i64 = 10;

const MODEL_SPEC: &str = include_str!("specs/model.yaml");

/// One act.
#[derive(Debug)]
pub struct Act {
    /// Its number, counted from 1.
    pub number: u8,
    /// Its title.
    pub title: &'static str,
    /// An introduction, line by line.
    pub about: &'static [&'static str],
    /// The version that serves when it begins.
    pub stable: &'static str,
    /// The phase that its rollout should end in. It decides nothing but the exit code.
    pub ending: &'static str,
    spec: &'static str,
}

/// All acts, in order.
pub const ACTS: [Act; 3] = [
    Act {
        number: 1,
        title: "v2 in the shadow of v1",
        about: &[
            "v1 answers every flight. v2 gets a silent copy of each request; its answers are never served.",
            "When a plane has landed, the truth is known, and both are scored on the same flight.",
        ],
        stable: "v1",
        ending: "Concluded",
        spec: include_str!("specs/shadow.yaml"),
    },
    Act {
        number: 2,
        title: "v2 as a canary",
        about: &[
            "v2 serves 5 %, 25 %, 50 % of the aircraft. Each step waits until the labels prove that v2 is not worse.",
        ],
        stable: "v1",
        ending: "Promoted",
        spec: include_str!("specs/canary.yaml"),
    },
    Act {
        number: 3,
        title: "a broken build",
        about: &[
            "v3 is a new build of v2, and someone feeds it hours where the model was trained on minutes.",
            "It answers in time, makes no errors, and its scores look plausible. Is it caught?",
        ],
        stable: "v2",
        ending: "Aborted",
        spec: include_str!("specs/broken.yaml"),
    },
];

impl Act {
    /// Returns when it begins and ends, in Unix milliseconds.
    pub fn days(&self) -> (i64, i64) {
        let from = BEGIN_MS + (i64::from(self.number) - 1) * ACT_DAYS * DAY_MS;
        (from, from + ACT_DAYS * DAY_MS)
    }

    /// Returns its rollout.
    pub fn rollout(&self, model: &str) -> Result<Document, CliError> {
        one(&self.spec.replace("MODEL", model))
    }
}

/// Returns the model.
pub fn model(name: &str, stable: &str) -> Result<Document, CliError> {
    one(&MODEL_SPEC.replace("STABLE", stable).replace("name: MODEL", &format!("name: {name}")))
}

fn one(text: &str) -> Result<Document, CliError> {
    let mut documents = load("the demonstration's own spec", text)?;
    documents.pop().ok_or_else(|| CliError::NotFound("a spec of the demonstration".to_owned()))
}

/// Returns the three builds that answer: v1, v2, and v3, which is v2 fed with hours for minutes.
pub fn builds() -> Result<[(&'static str, Predictor); 3], WorkerError> {
    let whole = FeatureList::under("/features", &FEATURES);
    let mistaken = whole.clone().divided("mins", 60.0)?;
    let build = |bytes, features| Predictor::new(Model::from_bytes(bytes)?, features, "late");
    Ok([
        ("v1", build(MODEL_V1, whole.clone())?),
        ("v2", build(MODEL_V2, whole)?),
        ("v3", build(MODEL_V2, mistaken)?),
    ])
}

#[cfg(test)]
mod tests {
    use super::{ACTS, builds, model};
    use crate::demo::flights::september_2013;
    use serinus_core::spec::plan::Document;

    #[test]
    fn every_spec_is_right_and_the_acts_follow_each_other() {
        model("flights", "v1").expect("the model's spec is right");
        for (act, next) in ACTS.iter().zip(ACTS.iter().skip(1)) {
            assert_eq!(act.days().1, next.days().0);
        }
        for act in &ACTS {
            let document = act.rollout("flights").unwrap_or_else(|wrong| panic!("{wrong}"));
            let Document::Rollout(plan, _) = document else { panic!("a rollout") };
            assert_eq!(plan.model.as_str(), "flights");
        }
        let flights = september_2013();
        let (begin, end) = (ACTS[0].days().0, ACTS[2].days().1);
        assert!(flights.iter().all(|f| (begin..end).contains(&f.scheduled)));
    }

    #[test]
    fn the_broken_build_answers_otherwise_than_the_good_one() {
        let flights = september_2013();
        let [_, (_, mut good), (_, mut broken)] = builds().expect("the models are read");
        let differ = flights
            .iter()
            .take(500)
            .filter(|f| good.answer(&f.request_body()) != broken.answer(&f.request_body()))
            .count();
        assert!(differ > 250, "{differ} of 500 answers differ");
    }
}
