//! Converts the JSON of a request to the model's features, and the prediction to the JSON of the answer.

use serde_json::Value;

use crate::worker::onnx::model::Prediction;

/// The places of a model's features in a request, in the model's order.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureList {
    features: Vec<Feature>,
}

#[derive(Clone, Debug, PartialEq)]
struct Feature {
    name: String,
    pointer: String,
    divisor: f32,
}

/// The reason why a feature list or a request cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// The list is empty, or one of its members is invalid.
    #[error("feature list: {0}")]
    List(String),
    /// The request is not JSON.
    #[error("request is not JSON: {0}")]
    NotJson(String),
    /// The request lacks a feature.
    #[error("request has no `{pointer}` (feature `{name}`)")]
    Absent {
        /// The feature.
        name: String,
        /// Its JSON pointer.
        pointer: String,
    },
    /// The value of a feature is not a number.
    #[error("`{pointer}` (feature `{name}`) is {found}, not a number")]
    NotANumber {
        /// The feature.
        name: String,
        /// Its JSON pointer.
        pointer: String,
        /// The type of the value.
        found: &'static str,
    },
}

impl FeatureList {
    /// Parses a list such as `month,mins=/clock/minute`.
    ///
    /// A name without a JSON pointer means the member of `/features` with this name.
    pub fn parse(text: &str) -> Result<Self, FeatureError> {
        let mut features: Vec<Feature> = Vec::new();
        for item in text.split(',').map(str::trim) {
            let (name, pointer) = match item.split_once('=') {
                Some((name, pointer)) => (name.trim(), pointer.trim().to_owned()),
                None => (item, pointer_under("/features", item)),
            };
            if name.is_empty() {
                return Err(FeatureError::List(format!("a name is empty in `{text}`")));
            }
            if !pointer.starts_with('/') {
                return Err(FeatureError::List(format!(
                    "`{name}`: `{pointer}` is not a JSON pointer, which begins with `/`"
                )));
            }
            if features.iter().any(|feature| feature.name == name) {
                return Err(FeatureError::List(format!("`{name}` is named twice")));
            }
            features.push(Feature { name: name.to_owned(), pointer, divisor: 1.0 });
        }
        Ok(Self { features })
    }

    /// Returns a list of features that are members of one object.
    pub fn under(parent: &str, names: &[&str]) -> Self {
        let features = names
            .iter()
            .map(|name| Feature {
                name: (*name).to_owned(),
                pointer: pointer_under(parent, name),
                divisor: 1.0,
            })
            .collect();
        Self { features }
    }

    /// Divides a feature by a number before prediction, such as minutes by 60.
    pub fn divided(mut self, name: &str, by: f32) -> Result<Self, FeatureError> {
        if !by.is_normal() {
            return Err(FeatureError::List(format!("`{name}` cannot be divided by {by}")));
        }
        let Some(feature) = self.features.iter_mut().find(|feature| feature.name == name) else {
            return Err(FeatureError::List(format!("there is no `{name}` to divide")));
        };
        feature.divisor = by;
        Ok(self)
    }

    /// Returns the number of features.
    #[expect(clippy::len_without_is_empty, reason = "a list is never empty: `parse` refuses it")]
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Reads the features of a request into `out`. A `null` is an unknown feature and becomes 0.
    pub fn read(&self, request: &[u8], out: &mut Vec<f32>) -> Result<(), FeatureError> {
        out.clear();
        let request: Value = serde_json::from_slice(request)
            .map_err(|error| FeatureError::NotJson(error.to_string()))?;
        for feature in &self.features {
            out.push(feature.read(&request)? / feature.divisor);
        }
        Ok(())
    }
}

impl Feature {
    fn read(&self, request: &Value) -> Result<f32, FeatureError> {
        let found = match request.pointer(&self.pointer) {
            Some(Value::Number(number)) => {
                // A number outside of the range of f32 becomes infinite, which every model accepts.
                #[expect(clippy::cast_possible_truncation, reason = "models take 32-bit floats")]
                let value = number.as_f64().unwrap_or(f64::NAN) as f32;
                return Ok(value);
            }
            Some(Value::Null) => return Ok(0.0),
            Some(Value::Bool(_)) => "true or false",
            Some(Value::String(_)) => "a text",
            Some(Value::Array(_)) => "an array",
            Some(Value::Object(_)) => "an object",
            None => {
                let (name, pointer) = (self.name.clone(), self.pointer.clone());
                return Err(FeatureError::Absent { name, pointer });
            }
        };
        let (name, pointer) = (self.name.clone(), self.pointer.clone());
        Err(FeatureError::NotANumber { name, pointer, found })
    }
}

/// Returns the body of the answer: the score with six decimals, and whether the predicted class is not 0 in the field `decision`.
///
/// A score that is not finite, which a damaged model can return, becomes `null`.
pub fn answer_body(prediction: &Prediction, decision: &str) -> Vec<u8> {
    let score = prediction.score();
    let score = if score.is_finite() { format!("{score:.6}") } else { "null".to_owned() };
    let decision = Value::from(decision);
    format!(r#"{{"score":{score},{decision}:{}}}"#, prediction.label != 0).into_bytes()
}

fn pointer_under(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_in_the_lists_order() {
        let check = |list: &str, request: &str, expected: &[f32]| {
            let mut features = vec![7.0];
            FeatureList::parse(list)
                .and_then(|list| list.read(request.as_bytes(), &mut features))
                .expect("the features are there");
            let bits = |list: &[f32]| list.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&features), bits(expected), "{list} of {request}");
        };
        check("b,a", r#"{"features":{"a":1,"b":2.5}}"#, &[2.5, 1.0]);
        check("a , b=/x/0", r#"{"features":{"a":-1e3},"x":[73.94]}"#, &[-1000.0, 73.94]);
        check("a/b", r#"{"features":{"a/b":4}}"#, &[4.0]);
        check("a", r#"{"features":{"a":null}}"#, &[0.0]);
        check("a", r#"{"features":{"a":18446744073709551615}}"#, &[1.844_674_4e19]);
        check("a", r#"{"features":{"a":1e300}}"#, &[f32::INFINITY]);
    }

    #[test]
    fn a_request_without_its_features_says_what_is_wrong() {
        let check = |request: &str, expected: &str| {
            let list = FeatureList::under("/features", &["mins"]);
            let error =
                list.read(request.as_bytes(), &mut Vec::new()).expect_err("it has no features");
            assert_eq!(error.to_string(), expected);
        };
        check("{}", "request has no `/features/mins` (feature `mins`)");
        check(r#"{"features":3}"#, "request has no `/features/mins` (feature `mins`)");
        check(
            r#"{"features":{"mins":"3"}}"#,
            "`/features/mins` (feature `mins`) is a text, not a number",
        );
        check(
            r#"{"features":{"mins":true}}"#,
            "`/features/mins` (feature `mins`) is true or false, not a number",
        );
        check("nine", "request is not JSON: expected ident at line 1 column 2");
    }

    #[test]
    fn an_invalid_list_is_refused() {
        let check = |list: &str, expected: &str| {
            let error = FeatureList::parse(list).expect_err("the list is wrong");
            assert_eq!(error.to_string(), format!("feature list: {expected}"));
        };
        check("", "a name is empty in ``");
        check("a,,b", "a name is empty in `a,,b`");
        check("a,b,a", "`a` is named twice");
        check("a=b", "`a`: `b` is not a JSON pointer, which begins with `/`");
    }

    #[test]
    fn a_feature_can_be_divided() {
        let list = || FeatureList::under("/features", &["mins", "distance"]);
        let broken = list().divided("mins", 60.0).expect("there is such a feature");
        let mut features = Vec::new();
        broken
            .read(br#"{"features":{"mins":90,"distance":90}}"#, &mut features)
            .expect("the features are there");
        assert!(
            (features[0] - 1.5).abs() < 1e-6 && (features[1] - 90.0).abs() < 1e-6,
            "{features:?}"
        );
        assert!(list().divided("hours", 60.0).is_err());
        assert!(list().divided("mins", 0.0).is_err());
    }

    #[test]
    fn the_answer_is_json_with_six_decimals() {
        let check = |label, score, expected: &str| {
            let mut prediction = Prediction::default();
            prediction.label = label;
            prediction.probabilities.extend([0.0, score]);
            let body = answer_body(&prediction, "late");
            assert_eq!(String::from_utf8_lossy(&body), expected);
            serde_json::from_slice::<Value>(&body).expect("it is JSON");
        };
        check(0, 0.123_456_4, r#"{"score":0.123456,"late":false}"#);
        check(1, 1.0, r#"{"score":1.000000,"late":true}"#);
        check(1, f32::NAN, r#"{"score":null,"late":true}"#);
    }
}
