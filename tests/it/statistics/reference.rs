//! The statistics against independent values: closed forms, mpmath, scipy, statsmodels, confseq, gbstats, ddsketch.
//!
//! `SERINUS_STAT_REFERENCE`, `SERINUS_STAT_EDGES` and `SERINUS_STAT_STREAMS` name other files of the same form.

mod betting;
mod boundaries;
mod means;
mod rates;
mod samples;
mod streams;

use std::fs;

use serde_json::{Map, Value, json};

/// Computes the results of a case from its input.
type Function = fn(&Value) -> Value;

/// Returns the function with this name.
// A new function: a line in one of these tables.
fn function(name: &str) -> Option<Function> {
    [betting::TABLE, boundaries::TABLE, means::TABLE, rates::TABLE, samples::TABLE]
        .iter()
        .flat_map(|table| table.iter())
        .find(|(known, _)| *known == name)
        .map(|(_, function)| *function)
}

fn path(variable: &str, default: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| format!("{}/tests/reference/{default}", env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn reference_cases_are_met() {
    assert_met(&path("SERINUS_STAT_REFERENCE", "stat-reference-public.json"));
}

/// Edge cases: no data, one value, all equal, only ties, identical samples, one arm without events.
#[test]
fn reference_cases_at_the_edges_are_met() {
    assert_met(&path("SERINUS_STAT_EDGES", "stat-reference-edges.json"));
}

fn assert_met(path: &str) {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("failed to read {path}: {e}"));
    let reference: Value = serde_json::from_str(&text).expect("the reference is JSON");
    let cases = reference["cases"].as_array().expect("the reference has cases");
    assert!(!cases.is_empty(), "no cases in {path}");
    let mut failures = Vec::new();
    for case in cases {
        let name = case["fn"].as_str().expect("a case names its function");
        let id = case["id"].as_str().unwrap_or(name);
        let Some(function) = function(name) else {
            failures.push(format!("{id}: unknown function {name}"));
            continue;
        };
        let tolerance =
            if case["tol"].is_object() { &case["tol"] } else { &reference["spec"][name]["tol"] };
        let tolerance = Tolerance {
            relative: tolerance["rel"].as_f64().unwrap_or(0.0),
            absolute: tolerance["abs"].as_f64().unwrap_or(0.0),
        };
        compare(id, &function(&case["input"]), &case["expected"], tolerance, &mut failures);
    }
    assert!(failures.is_empty(), "{} mismatches:\n{}", failures.len(), failures.join("\n"));
}

#[derive(Clone, Copy)]
struct Tolerance {
    relative: f64,
    absolute: f64,
}

/// Compares all expected values; additional computed values are ignored.
fn compare(
    at: &str,
    got: &Value,
    expected: &Value,
    tolerance: Tolerance,
    failures: &mut Vec<String>,
) {
    match expected {
        Value::Object(fields) => {
            for (key, expected) in fields {
                compare(&format!("{at}.{key}"), &got[key], expected, tolerance, failures);
            }
        }
        Value::Array(items) => {
            if got.as_array().map(Vec::len) != Some(items.len()) {
                failures.push(format!("{at}: got {got}, expected {expected}"));
                return;
            }
            for (i, expected) in items.iter().enumerate() {
                compare(&format!("{at}[{i}]"), &got[i], expected, tolerance, failures);
            }
        }
        Value::Number(wanted) => {
            let wanted = wanted.as_f64().expect("numbers fit an f64");
            let close = got.as_f64().is_some_and(|a| {
                (a - wanted).abs() <= tolerance.absolute + tolerance.relative * wanted.abs()
            });
            if !close {
                failures.push(format!("{at}: got {got}, expected {expected}"));
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {
            if got != expected {
                failures.push(format!("{at}: got {got}, expected {expected}"));
            }
        }
    }
}

/// A number as written in the reference.
fn number(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "inf" } else { "-inf" })
    } else {
        json!(value)
    }
}

/// An object of numbers.
fn numbers<const N: usize>(fields: [(&str, f64); N]) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), number(value)))
            .collect::<Map<_, _>>(),
    )
}

fn list(values: &[f64]) -> Value {
    Value::Array(values.iter().map(|f| number(*f)).collect())
}

/// Parses a number, which may be written as `"inf"`.
fn f(value: &Value) -> f64 {
    match value {
        Value::Number(it) => it.as_f64().expect("numbers fit an f64"),
        Value::String(it) => it.parse().expect("a number as text"),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            panic!("{value} is not a number")
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts may be written as 1e9"
)]
fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| f(value) as u64)
}

fn fs(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(f).collect()
}

fn ns(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(n).collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}
