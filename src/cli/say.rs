//! The text of numbers, times and shares.

use serde::Serialize;

use crate::wire::metrics::ScoringRecord;
use serinus_core::domain::time::civil_date;

/// Returns the text of a count with its thousands separated: `3,900`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut said = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

/// Returns the text of a number with its significant decimal places: `0.128`, `-0.0031`, `73.9`, `1204`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let places: usize = match size {
        _ if !value.is_finite() => return value.to_string(),
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ if (0.001..0.01).contains(&size) => 4,
        _ if (5e-6..0.001).contains(&size) => 5,
        _ => 3,
    };
    let said = format!("{value:.places$}");
    if said.trim_start_matches('-').trim_matches(['0', '.']).is_empty() {
        return "0".to_owned();
    }
    said
}

/// Returns the text of a difference with its sign: `+0.010`.
pub(crate) fn signed(value: f64) -> String {
    let said = number(value);
    if value > 0.0 && said != "0" { format!("+{said}") } else { said }
}

/// Returns the text of a share as a percentage: `12.5%`.
pub(crate) fn percent(fraction: f64) -> String {
    // Adding nothing makes the negative zero of a rounded sum a plain one.
    let percent = (fraction * 1e6).round() / 1e4 + 0.0;
    format!("{percent}%")
}

/// Returns the text of a number of a record, or `-` if it is absent.
pub(crate) fn or_dash(value: Option<f64>, how: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), how)
}

/// Returns the text of a count of a record, or `-` if it is absent.
pub(crate) fn count_or_dash(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), count)
}

/// Returns the word that a record has for a variant of an enum.
pub(crate) fn word(variant: impl Serialize) -> String {
    let value = serde_json::to_value(variant).unwrap_or_default();
    value.as_str().unwrap_or("-").to_owned()
}

/// Returns the text of a time in UTC: `2013-09-03 14:30:00`.
pub(crate) fn moment(unix_ms: i64) -> String {
    let days = unix_ms.div_euclid(86_400_000);
    let ms = unix_ms.rem_euclid(86_400_000);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Returns the text about the cases of a version that a metric could not score.
pub(crate) fn gap(gap: &ScoringRecord) -> String {
    let ScoringRecord { metric, version, reason, share, sample } = gap;
    let such =
        if sample.is_empty() { String::new() } else { format!(", such as {}", sample.join(", ")) };
    let share = percent(*share);
    let what = match reason.as_str() {
        "outside the range" => "of the values are clipped",
        "ties hide the ranking" => {
            "of all pairs of a positive and a negative have scores too close to rank"
        }
        _ => "of the labelled cases cannot be scored",
    };
    format!("{metric} of {version}: {share} {what} ({reason}){such}")
}

#[cfg(test)]
mod tests {
    use super::{count, moment, number, percent, signed};

    #[test]
    fn numbers_read_easily() {
        let check = |said: String, expected: &str| assert_eq!(said, expected);
        check(count(0), "0");
        check(count(999), "999");
        check(count(1_234_567), "1,234,567");
        check(number(0.128_3), "0.128");
        check(number(-0.003_123), "-0.0031");
        check(number(0.000_055), "0.00006");
        check(number(73.94), "73.9");
        check(number(-0.0), "0");
        check(number(1e-9), "0");
        check(signed(0.01), "+0.010");
        check(signed(-0.013), "-0.013");
        check(percent(0.125), "12.5%");
        check(percent(1.0), "100%");
        check(percent(0.07), "7%");
        check(percent(-1e-17), "0%");
    }

    #[test]
    fn moments_are_in_utc() {
        let check = |ms: i64, expected: &str| assert_eq!(moment(ms), expected);
        check(0, "1970-01-01 00:00:00");
        check(1_377_993_600_000, "2013-09-01 00:00:00");
        check(1_709_251_199_999, "2024-02-29 23:59:59");
        check(-1, "1969-12-31 23:59:59");
    }
}
