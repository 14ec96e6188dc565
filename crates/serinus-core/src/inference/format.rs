//! Sentences for people: numbers, times and findings as they are read in a reason.

use crate::domain::time::{Timestamp, civil_date};
use crate::inference::verdict::{Clipped, Estimate, Finding, Proof, Question};
use crate::plan::metric::Margin;

/// Writes a whole number with thousands separated.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes an instant as `14:30`, with its date where that is not the date of `seen_from`.
pub fn clock(at: Timestamp, seen_from: Timestamp) -> String {
    const DAY: i64 = 86_400_000;
    let minutes = at.0.rem_euclid(DAY) / 60_000;
    let time = format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let day = at.0.div_euclid(DAY);
    if day == seen_from.0.div_euclid(DAY) {
        return time;
    }
    let (year, month, day) = civil_date(day);
    format!("{year:04}-{month:02}-{day:02} {time}")
}

/// Writes what one metric shows: `brier: non-inferior proved (-0.013 [-0.021, -0.004], limit +0.010, n 3,900 compared)`.
pub fn finding(finding: &Finding) -> String {
    let what = match finding.proof {
        Proof::NoData => return format!("{}: no data", finding.metric),
        Proof::Open if finding.design_effect.is_infinite() => {
            "nothing proved: the same few units come again and again"
        }
        Proof::Open => "nothing proved yet",
        Proof::NonInferior => "non-inferior proved",
        Proof::Superior => "better proved",
        Proof::Harmful => "worse proved",
        Proof::Watched => "watched",
        Proof::Alerting => "worse in this segment",
    };
    let Some(difference) = finding.difference else {
        return format!("{}: {what} (n {} compared)", finding.metric, count(finding.n));
    };
    let (scale, unit) = match finding.margin {
        Margin::Absolute(_) => (1.0, ""),
        Margin::Relative(_) => (100.0, "%"),
    };
    let limit = finding.margin.value() * finding.direction.harm_sign();
    let decimals = decimals(finding, difference, limit, scale);
    let signed = |value: f64| format!("{:+.decimals$}{unit}", value * scale);
    let range = match (difference.low, difference.high) {
        (Some(low), Some(high)) => format!(" [{}, {}]", signed(low), signed(high)),
        (Some(low), None) => format!(" [{}, ...]", signed(low)),
        (None, Some(high)) => format!(" [..., {}]", signed(high)),
        (None, None) => String::new(),
    };
    format!(
        "{}: {what} ({}{range}, limit {}, n {} compared{})",
        finding.metric,
        signed(difference.value),
        signed(limit),
        count(finding.n),
        clipped(finding)
    )
}

/// Writes a percentage that falls short of another, with enough decimals to tell them apart.
pub fn short_of(part: f64, whole: f64) -> (String, String) {
    let text = |value: f64, decimals: usize| format!("{:.decimals$}%", value * 100.0);
    let decimals = (1..DECIMALS_MAX).find(|d| text(part, *d) != text(whole, *d));
    let decimals = decimals.unwrap_or(DECIMALS_MAX);
    (text(part, decimals), text(whole, decimals))
}

/// Writes two numbers with enough decimals, two or more, to tell them apart.
pub fn apart(one: f64, other: f64) -> (String, String) {
    let text = |value: f64, decimals: usize| format!("{value:.decimals$}");
    let decimals = (2..DECIMALS_MAX).find(|d| text(one, *d) != text(other, *d));
    let decimals = decimals.unwrap_or(2);
    (text(one, decimals), text(other, decimals))
}

/// More decimals than this say nothing to anybody.
const DECIMALS_MAX: usize = 9;
/// How many decimals more than usual a sentence may have.
const DECIMALS_MORE: usize = 4;

/// Enough decimals to tell the ends of the range, and an estimate that proves something, from nothing and from the limit.
fn decimals(finding: &Finding, difference: Estimate, limit: f64, scale: f64) -> usize {
    let usual = decimals_for(finding.margin.value() * scale);
    let claimed = match finding.proof {
        Proof::Harmful | Proof::Superior | Proof::NonInferior | Proof::Alerting => {
            Some(difference.value)
        }
        Proof::NoData | Proof::Open | Proof::Watched => None,
    };
    let text = |value: f64, decimals: usize| format!("{:+.decimals$}", value * scale + 0.0);
    let mut most = usual;
    for number in [difference.low, difference.high, claimed].into_iter().flatten() {
        for other in [0.0, limit] {
            let is_apart = |u: &usize| {
                text(number, *u) != text(other, *u) && !is_zero(&text(number, *u), other)
            };
            if (number - other).abs() > 0.0 {
                let wanted = (usual..=usual + DECIMALS_MORE).find(is_apart);
                most = most.max(wanted.unwrap_or(usual));
            }
        }
    }
    most
}

/// Returns whether a written number is nothing, with either sign, where nothing is what it is held against.
fn is_zero(text: &str, other: f64) -> bool {
    other.abs() <= 0.0 && !text.contains(|digit: char| ('1'..='9').contains(&digit))
}

/// Says which shares of the values were clipped, where any were.
fn clipped(finding: &Finding) -> String {
    match finding.clipped {
        Some(Clipped { stable, candidate }) if stable > 0.0 || candidate > 0.0 => format!(
            ", outside the range {:.1}% of {} and {:.1}% of the stable version",
            candidate * 100.0,
            finding.candidate,
            stable * 100.0
        ),
        Some(_) | None => String::new(),
    }
}

/// Writes that a metric cannot be proved while answers are left out: nothing where those that are left out do not decide it.
pub fn left_out(finding: &Finding, question: Question) -> Option<String> {
    let sign = finding.direction.harm_sign();
    let limit = match question {
        Question::Harm => return None,
        Question::NonInferior => finding.margin.value(),
        Question::Superior => 0.0,
    };
    let scored = finding.difference?.value * sign;
    let worst = finding.lost.worst_difference? * sign;
    if worst < limit || scored >= limit {
        return None;
    }
    let share = |lost: u64, scored: Option<Estimate>| {
        let scored = scored.map_or(0, |s| s.n);
        lost as f64 / (lost + scored).max(1) as f64
    };
    let ours = share(finding.lost.candidate, finding.value);
    let theirs = share(finding.lost.stable, finding.stable);
    let whose = if ours >= theirs { finding.candidate.as_str() } else { "the stable version" };
    let percent = 100.0 * ours.max(theirs);
    let proved = match question {
        Question::Harm | Question::Superior => "better".to_owned(),
        Question::NonInferior => format!("within {}", finding.margin.value()),
    };
    let metric = &finding.metric;
    Some(format!(
        "{percent:.1} % of {whose}'s answers cannot be scored; {metric} cannot be proved {proved} while they are"
    ))
}

/// Enough decimals to tell two differences of a tenth of the margin apart.
fn decimals_for(margin: f64) -> usize {
    let size = margin.abs().max(1e-9).log10().floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to [0, 9] before"
    )]
    let decimals = (1.0 - size).clamp(0.0, 9.0) as usize;
    decimals
}

#[cfg(test)]
mod tests {
    use super::{apart, clock, count, finding, short_of};
    use crate::domain::time::Timestamp;
    use crate::inference::verdict::{Estimate, Finding, LostAnswers, Proof};
    use crate::plan::metric::{Direction, Margin, MetricKind, MetricRole};

    #[test]
    fn numbers_and_times_read_as_people_write_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(3_900), "3,900");
        assert_eq!(count(1_234_567), "1,234,567");
        let at = Timestamp(1_377_993_600_000);
        assert_eq!(clock(at, at), "00:00");
        assert_eq!(clock(at, Timestamp(0)), "2013-09-01 00:00");
        assert_eq!(clock(Timestamp(951_782_400_000), Timestamp(0)), "2000-02-29 00:00");
    }

    #[test]
    fn a_finding_reads_as_in_the_contract() {
        let brier = Finding {
            metric: "brier".into(),
            kind: MetricKind::Brier,
            role: MetricRole::Goal,
            direction: Direction::Lower,
            margin: Margin::Absolute(0.01),
            candidate: "v2".into(),
            n: 3_900,
            stable: None,
            value: None,
            difference: Some(Estimate {
                value: -0.013,
                low: Some(-0.021),
                high: Some(-0.004),
                n: 3_900,
            }),
            log_e: None,
            classic: None,
            needs_label: true,
            wants_better: false,
            proof: Proof::NonInferior,
            aborts: true,
            n_min: 1_000,
            design_effect: 1.0,
            clipped: None,
            lost: LostAnswers::default(),
        };
        assert_eq!(
            finding(&brier),
            "brier: non-inferior proved (-0.013 [-0.021, -0.004], limit +0.010, n 3,900 compared)"
        );
    }

    /// A finding of errors, lower is better, with a limit of +0.020.
    fn errors(proof: Proof, [low, value, high]: [f64; 3]) -> String {
        finding(&Finding {
            metric: "errors".into(),
            kind: MetricKind::ResponseError,
            role: MetricRole::Guardrail,
            direction: Direction::Lower,
            margin: Margin::Absolute(0.02),
            candidate: "v2".into(),
            n: 900,
            stable: None,
            value: None,
            difference: Some(Estimate { value, low: Some(low), high: Some(high), n: 900 }),
            log_e: None,
            classic: None,
            needs_label: false,
            wants_better: false,
            proof,
            aborts: true,
            n_min: 400,
            design_effect: 1.0,
            clipped: None,
            lost: LostAnswers::default(),
        })
    }

    #[test]
    fn numbers_that_differ_are_written_apart() {
        assert_eq!(short_of(0.949_96, 0.95), ("94.996%".to_owned(), "95.000%".to_owned()));
        assert_eq!(short_of(0.5, 0.95), ("50.0%".to_owned(), "95.0%".to_owned()));
        assert_eq!(apart(2.9957, 2.9959), ("2.9957".to_owned(), "2.9959".to_owned()));
        assert_eq!(
            errors(Proof::Harmful, [0.00002, 0.021, 0.045]),
            "errors: worse proved (+0.02100 [+0.00002, +0.04500], limit +0.02000, n 900 compared)"
        );
        assert_eq!(
            errors(Proof::NonInferior, [-0.01, 0.001, 0.01998]),
            "errors: non-inferior proved (+0.00100 [-0.01000, +0.01998], limit +0.02000, n 900 compared)"
        );
        assert_eq!(
            errors(Proof::Superior, [-0.01, -0.005, -0.00004]),
            "errors: better proved (-0.00500 [-0.01000, -0.00004], limit +0.02000, n 900 compared)"
        );
        assert_eq!(
            errors(Proof::Open, [-0.01, 0.0001, 0.02]),
            "errors: nothing proved yet (+0.000 [-0.010, +0.020], limit +0.020, n 900 compared)"
        );
    }
}
