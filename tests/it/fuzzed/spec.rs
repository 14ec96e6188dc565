//! Any bytes as a spec file: parsing never panics, and the JSON form of a document gives the same plan.

use serinus_core::spec::plan::{Document, load, model_from_json, rollout_from_json};

pub(crate) fn run(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let documents = match load("fuzzed.yaml", &text) {
        Ok(documents) => documents,
        Err(errors) => {
            // The error message quotes the file, which must not panic either.
            assert!(!errors.to_string().is_empty());
            return false;
        }
    };
    for document in documents {
        match document {
            Document::Model(plan, json) => {
                assert_eq!(model_from_json(&json).as_ref(), Ok(&plan), "{json}");
            }
            Document::Rollout(plan, json) => {
                assert_eq!(rollout_from_json(&json).as_ref(), Ok(&plan), "{json}");
            }
        }
    }
    true
}
