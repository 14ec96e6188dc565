//! Whether a label repeats or contradicts one that is known of its request.

use serde_json::Value;

use crate::domain::label::Label;

/// Which known labels a label repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Its version is not known.
    Nothing,
    /// Its version is known, with its value or taken back.
    Same,
    /// Its version is known with another value.
    Other,
}

/// Returns whether a version of a label is already known, and with which value; a retraction counts separately.
pub(crate) fn repeats(known: &[Label], label: &Label) -> Repeats {
    let of_version = || known.iter().filter(|x| x.version == label.version);
    if !of_version().any(|x| x.retract || !label.retract) {
        return Repeats::Nothing;
    }
    match of_version().find(|x| !x.retract) {
        Some(first) if !label.retract && !is_same(&first.value, &label.value) => Repeats::Other,
        Some(_) | None => Repeats::Same,
    }
}

/// Returns whether two values are equal; numbers are equal even if they are written differently, as 1 and 1.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let is_same_in_b =
                |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| is_same(a, b));
            a.len() == b.len() && a.iter().all(is_same_in_b)
        }
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Repeats, repeats};
    use crate::domain::label::Label;
    use crate::domain::time::Timestamp;

    fn label(value: &Value, version: u64, retract: bool) -> Label {
        let value = value.clone();
        Label { request_id: "r".into(), value, observed_at: Timestamp(5), version, retract }
    }

    #[test]
    fn a_second_value_of_one_version_contradicts_and_the_same_one_does_not() {
        let check = |first: Value, second: Value, expected: Repeats| {
            let known = [label(&first, 1, false)];
            assert_eq!(repeats(&known, &label(&second, 1, false)), expected, "{first}, {second}");
            let newer = label(&second, 2, false);
            assert_eq!(repeats(&known, &newer), Repeats::Nothing, "another version");
        };
        check(json!({"late": 1}), json!({"late": 1}), Repeats::Same);
        check(json!({"late": 1, "by": [2]}), json!({"by": [2.0], "late": 1.0}), Repeats::Same);
        check(json!({"late": 1}), json!({"late": 0}), Repeats::Other);
        check(json!({"late": 1}), json!({"late": 1, "by": 2}), Repeats::Other);
        check(json!([1]), json!([1, 1]), Repeats::Other);
        check(json!(1), json!("1"), Repeats::Other);
        check(json!(1), json!(true), Repeats::Other);
        let next = 9_007_199_254_740_993_i64;
        check(json!(next), json!(next - 1), Repeats::Other);
    }

    #[test]
    fn taking_back_counts_beside_what_it_takes_back() {
        let (one, zero) = (json!(1), json!(0));
        let said = [label(&one, 1, false)];
        assert_eq!(repeats(&said, &label(&Value::Null, 1, true)), Repeats::Nothing);
        let taken_back = [label(&one, 1, false), label(&Value::Null, 1, true)];
        assert_eq!(repeats(&taken_back, &label(&Value::Null, 1, true)), Repeats::Same);
        assert_eq!(repeats(&taken_back, &label(&one, 1, false)), Repeats::Same);
        assert_eq!(repeats(&taken_back, &label(&zero, 1, false)), Repeats::Other);
        // A retraction can arrive before its label.
        let early = [label(&Value::Null, 1, true)];
        assert_eq!(repeats(&early, &label(&one, 1, false)), Repeats::Same);
    }
}
