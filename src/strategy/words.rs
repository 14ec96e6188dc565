//! Sentences for people: numbers, times and findings as they are read in a reason.

use crate::domain::time::Timestamp;
use crate::strategy::metric::Margin;
use crate::strategy::verdict::{Finding, Proof};

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
    let (year, month, day) = civil(day);
    format!("{year:04}-{month:02}-{day:02} {time}")
}

/// Writes what one metric shows: `brier: non-inferior proved (-0.013 [-0.021, -0.004], limit +0.010, n 3,900)`.
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
        return format!("{}: {what} (n {})", finding.metric, count(finding.n));
    };
    let (scale, unit) = match finding.margin {
        Margin::Absolute(_) => (1.0, ""),
        Margin::Relative(_) => (100.0, "%"),
    };
    let decimals = decimals_for(finding.margin.value() * scale);
    let signed = |value: f64| format!("{:+.decimals$}{unit}", value * scale);
    let range = match (difference.low, difference.high) {
        (Some(low), Some(high)) => format!(" [{}, {}]", signed(low), signed(high)),
        (_, _) => String::new(),
    };
    let limit = signed(finding.margin.value() * finding.direction.harm_sign());
    format!(
        "{}: {what} ({}{range}, limit {limit}, n {})",
        finding.metric,
        signed(difference.value),
        count(finding.n)
    )
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

/// The civil date of a day counted from 1970-01-01 (Hinnant's algorithm).
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{clock, count, finding};
    use crate::domain::time::Timestamp;
    use crate::strategy::metric::{Direction, Margin, MetricKind, MetricRole};
    use crate::strategy::verdict::{Estimate, Finding, Proof};

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
        };
        assert_eq!(
            finding(&brier),
            "brier: non-inferior proved (-0.013 [-0.021, -0.004], limit +0.010, n 3,900)"
        );
    }
}
