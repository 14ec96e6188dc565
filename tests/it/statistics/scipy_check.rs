//! Every fixed-horizon two-sample test on random inputs against scipy and statsmodels.
//!
//! `SERINUS_PYTHON` names a Python that has both (`pip install scipy statsmodels`); `SERINUS_SEED` repeats a run.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::process::{Command, Stdio};

use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use serde_json::{Value, json};
use serinus_stats::agreement::{self, Discordant};
use serinus_stats::exact;
use serinus_stats::moments::Summary;
use serinus_stats::ranks;
use serinus_stats::reference;
use serinus_stats::roc;
use serinus_stats::split;
use serinus_stats::two_sample::{self, Rate};

use crate::kit::kafka::skip;

/// Draws the input of a round: the first rounds of each turn are edge cases.
type Draw = fn(&mut Random, usize) -> Value;
/// Computes our results for an input.
type Compute = fn(&Value) -> Value;

/// Each test with its number of rounds, its inputs and our results.
// A new test: a line here, and a function in `tests/reference/scipy_check.py`.
const TABLE: &[(&str, usize, Draw, Compute)] = &[
    ("two_proportion_z", 80, rates, two_proportion_z),
    ("score", 120, rates_and_margin, score),
    ("fisher", 80, rates, fisher),
    // Each takes scipy half a second.
    ("unconditional", 16, small_rates, unconditional),
    ("welch", 60, samples, welch),
    ("tost", 60, samples_and_margin, tost),
    ("paired_t", 60, pairs, paired_t),
    ("mann_whitney", 80, samples, mann_whitney),
    ("kolmogorov_smirnov", 80, samples, kolmogorov_smirnov),
    ("mcnemar", 60, discordant, mcnemar),
    ("delong", 60, scored, delong),
    ("kappa", 60, cells, kappa),
    ("interval", 80, rate_and_alpha, interval),
    ("newcombe", 80, rates_and_alpha, newcombe),
    ("split", 60, counts_and_weights, chi_square),
];

#[test]
fn two_sample_tests_agree_with_scipy_and_statsmodels() {
    let Some(python) = python() else { return };
    let seed = std::env::var("SERINUS_SEED").map_or_else(
        |_| RandomState::new().hash_one(0),
        |h| h.parse().expect("SERINUS_SEED is a whole number"),
    );
    println!("SERINUS_SEED={seed}");
    let mut random = Random::seed_from_u64(seed);
    let mut cases = Vec::new();
    for (test, rounds, draw, compute) in TABLE {
        for round in 0..*rounds {
            let input = draw(&mut random, round);
            cases.push(json!({"test": test, "ours": compute(&input), "input": input}));
        }
    }
    let report = compare(&python, &Value::from(cases));
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    for (test, rounds, ..) in TABLE {
        let compared = report.of_test(test);
        assert!(compared >= *rounds, "{test}: {compared} comparisons in {rounds} rounds");
    }
    // Not `println!`, which is captured when the test passes.
    writeln!(std::io::stderr(), "scipy and statsmodels: {} comparisons", report.compared)
        .expect("stderr is open");
}

#[test]
fn a_wrong_figure_is_told() {
    let Some(python) = python() else { return };
    let input = json!({"x": 3, "n": 10, "alpha": 0.05});
    let right = interval(&input);
    let case = |ours: &Value| json!({"test": "interval", "input": input, "ours": ours});
    let mut wrong = right.clone();
    wrong["exact_high"] = json!(number(&right["exact_high"]) + 1e-6);
    let mut missing = right.clone();
    missing["wilson_low"] = Value::Null;
    let report = compare(&python, &json!([case(&right), case(&wrong), case(&missing)]));
    assert_eq!((report.compared, report.of_test("interval")), (12, 12));
    let [first, second] = &report.differences[..] else {
        panic!("two figures are wrong: {:?}", report.differences)
    };
    assert!(first.starts_with("interval.exact_high: 0.652"), "{first}");
    assert!(second.starts_with("interval.wilson_low: nan is not 0.107"), "{second}");
}

/// Returns the Python that has both packages, or prints that there is none.
fn python() -> Option<String> {
    let python = std::env::var("SERINUS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_both = Command::new(&python)
        .args(["-c", "import scipy, statsmodels"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if has_both.is_ok_and(|i| i.success()) {
        return Some(python);
    }
    skip(
        "no python3 with scipy and statsmodels (pip install scipy statsmodels; SERINUS_PYTHON names another python)",
    );
    None
}

/// The output of the script.
struct Report {
    /// A line for each difference.
    differences: Vec<String>,
    /// The number of compared values per test, as `name count`.
    by_test: Vec<String>,
    compared: usize,
}

impl Report {
    fn of_test(&self, test: &str) -> usize {
        let counts = self.by_test.iter().filter_map(|b| b.split_once(' '));
        counts
            .filter(|(name, _)| *name == test)
            .map(|(_, count)| count.parse::<usize>().expect("a count"))
            .sum()
    }
}

fn compare(python: &str, cases: &Value) -> Report {
    let mut child = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/scipy_check.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let written = stdin.write_all(cases.to_string().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("python ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    written.expect("python reads its input");
    let lines: Vec<&str> = text.lines().collect();
    let [differences @ .., by_test, total] = &lines[..] else {
        panic!("the script did not print what it compared: {text}")
    };
    let compared = total.strip_suffix(" comparisons").and_then(|s| s.parse().ok());
    Report {
        differences: differences.iter().map(|d| (*d).to_owned()).collect(),
        by_test: by_test.split(", ").map(str::to_owned).collect(),
        compared: compared.expect("the script counts its comparisons"),
    }
}

// Inputs.

fn normal(random: &mut Random) -> f64 {
    random.sample(StandardNormal)
}

fn one_of<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

fn alpha(random: &mut Random) -> f64 {
    one_of(random, &[0.01, 0.05, 0.2])
}

/// Two arms of different sizes with a mostly small common rate; in every other round some arm has all or no events.
fn rates_up_to(random: &mut Random, round: usize, sizes: &[u64]) -> Value {
    let base = random.random::<f64>().powi(2);
    let mut arm = |share: Option<f64>| {
        let most = one_of(random, sizes);
        let n = random.random_range(1..=most);
        let share = share.unwrap_or_else(|| (base + 0.1 * random.random::<f64>()).min(1.0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below n")]
        let events = (share * n as f64).round() as u64;
        (events.min(n), n)
    };
    let (treated, control) = match round % 10 {
        0 => (Some(0.0), Some(0.0)),
        1 => (Some(1.0), Some(1.0)),
        2 => (Some(0.0), Some(1.0)),
        3 => (Some(0.0), None),
        4 => (None, Some(1.0)),
        _ => (None, None),
    };
    let ((x1, n1), (x0, n0)) = (arm(treated), arm(control));
    json!({"x1": x1, "n1": n1, "x0": x0, "n0": n0})
}

fn rates(random: &mut Random, round: usize) -> Value {
    rates_up_to(random, round, &[5, 60, 900, 40_000])
}

fn small_rates(random: &mut Random, round: usize) -> Value {
    rates_up_to(random, round, &[8, 20])
}

fn rates_and_margin(random: &mut Random, round: usize) -> Value {
    let mut input = rates(random, round);
    let size = 0.001 + 0.1 * random.random::<f64>();
    input["margin"] = json!(one_of(random, &[0.0, size, -size]));
    input
}

fn rates_and_alpha(random: &mut Random, round: usize) -> Value {
    let mut input = rates(random, round);
    input["alpha"] = json!(alpha(random));
    input
}

fn rate_and_alpha(random: &mut Random, round: usize) -> Value {
    let input = rates(random, round);
    json!({"x": input["x1"], "n": input["n1"], "alpha": alpha(random)})
}

/// Two samples of different sizes: all equal in both, all equal in each, all equal in one, with ties, one value against
/// some or against one, the same values twice, or none of these.
fn samples(random: &mut Random, round: usize) -> Value {
    let most = one_of(random, &[6, 30, 150]);
    let (n1, n0) = (random.random_range(2..=most), random.random_range(2..=most));
    let (shift, spread) = (normal(random), 0.3 + 3.0 * random.random::<f64>());
    let mut x: Vec<f64> = (0..n1).map(|_| shift + spread * normal(random)).collect();
    let mut y: Vec<f64> = (0..n0).map(|_| normal(random)).collect();
    match round % 10 {
        0 => {
            x.fill(1.5);
            y.fill(1.5);
        }
        1 => {
            x.fill(1.5);
            y.fill(-2.0);
        }
        2 => x.fill(0.5),
        3..=4 => x.iter_mut().chain(&mut y).for_each(|f| *f = (2.0 * *f).round() / 2.0),
        5 => x.truncate(1),
        6 if round % 20 == 6 => {
            x.truncate(1);
            y.truncate(1);
        }
        6 => y.clone_from(&x),
        7 if round == 7 => {
            x = vec![1.1, 2.2, 3.3];
            y = vec![4.4, 5.5, 6.6, 7.7];
        }
        _ => {}
    }
    json!({"x": x, "y": y})
}

fn samples_and_margin(random: &mut Random, round: usize) -> Value {
    let mut input = samples(random, round);
    input["margin"] = json!(0.1 + 2.0 * random.random::<f64>());
    input
}

fn pairs(random: &mut Random, round: usize) -> Value {
    let input = samples(random, round);
    let (x, y) = (numbers(&input["x"]), numbers(&input["y"]));
    let count = x.len().min(y.len());
    json!({"x": x[..count], "y": y[..count]})
}

fn discordant(random: &mut Random, round: usize) -> Value {
    let most = one_of(random, &[6, 40, 3_000]);
    let (b, c) = (random.random_range(0..=most), random.random_range(0..=most));
    match round % 10 {
        0 => json!({"b": 0, "c": 0}),
        1 => json!({"b": b, "c": b}),
        2 => json!({"b": 0, "c": c}),
        _ => json!({"b": b, "c": c}),
    }
}

/// Two scores of the same cases, with ties, and at least two cases of each class.
fn scored(random: &mut Random, round: usize) -> Value {
    let most = one_of(random, &[12, 40, 200]);
    let size = random.random_range(4..=most);
    let labels: Vec<bool> =
        (0..size).map(|i| i < 2 || (i >= 4 && random.random::<f64>() < 0.4)).collect();
    let mut scores = |skill: f64| -> Vec<f64> {
        let score = |is_positive: &bool| {
            (10.0 * (normal(random) + skill * f64::from(*is_positive))).round() / 10.0
        };
        labels.iter().map(score).collect()
    };
    // No noise separates the classes completely.
    let (first, second) = match round % 10 {
        0 => (scores(100.0), scores(100.0)),
        1 => (scores(100.0), scores(1.2)),
        2 => {
            let first = scores(0.8);
            (first.clone(), first)
        }
        _ => (scores(0.8), scores(1.2)),
    };
    json!({"labels": labels, "first": first, "second": second})
}

/// A square table of classes with some empty cells; in one round all cells but one are empty.
fn cells(random: &mut Random, round: usize) -> Value {
    let classes = random.random_range(2..=4);
    let most = one_of(random, &[3, 50, 5_000]);
    let mut cells: Vec<Vec<u64>> = (0..classes)
        .map(|_| (0..classes).map(|_| random.random_range(0..=most)).collect())
        .collect();
    cells[0][0] += 1;
    for (i, row) in cells.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            let is_empty = match round % 10 {
                0 => i + j > 0,
                1 => i != j,
                2 => i + j != 1,
                _ => false,
            };
            if is_empty {
                *cell = 0;
            }
        }
    }
    cells[0][1] += u64::from(round % 10 == 2);
    cells[1][1] += u64::from(round % 10 == 1);
    json!({"cells": cells})
}

fn counts_and_weights(random: &mut Random, round: usize) -> Value {
    let arms = random.random_range(2..=4);
    let most = one_of(random, &[10, 500, 100_000]);
    let mut counts: Vec<u64> = (0..arms).map(|_| random.random_range(0..=most)).collect();
    counts[0] += 1;
    if round.is_multiple_of(5) {
        counts[1] = 0;
    }
    let weights: Vec<f64> = (0..arms).map(|_| 0.1 + random.random::<f64>()).collect();
    json!({"counts": counts, "weights": weights})
}

// Our results; a value that is undefined or not finite is null.

fn number(input: &Value) -> f64 {
    input.as_f64().expect("a number")
}

fn numbers(input: &Value) -> Vec<f64> {
    input.as_array().expect("a list").iter().map(number).collect()
}

fn count(input: &Value) -> u64 {
    input.as_u64().expect("a count")
}

fn counts(input: &Value) -> Vec<u64> {
    input.as_array().expect("a list").iter().map(count).collect()
}

fn arms(input: &Value) -> (Rate, Rate) {
    let rate = |x: &str, n: &str| Rate { events: count(&input[x]), n: count(&input[n]) };
    (rate("x1", "n1"), rate("x0", "n0"))
}

fn two_proportion_z(input: &Value) -> Value {
    let (treated, control) = arms(input);
    let test = two_sample::two_proportion_z(treated, control);
    json!({
        "z_pooled": test.z_pooled,
        "p_pooled": test.p_pooled,
        "z_unpooled": test.z_unpooled,
        "p_unpooled": test.p_unpooled,
        "wald95_low": test.wald95.low,
        "wald95_high": test.wald95.high,
    })
}

fn score(input: &Value) -> Value {
    let (treated, control) = arms(input);
    let test = reference::two_sample::score_test(treated, control, number(&input["margin"]));
    json!({"z": test.z, "p": test.p_larger, "z_mn": test.z_mn, "p_mn": test.p_larger_mn})
}

fn fisher(input: &Value) -> Value {
    let (treated, control) = arms(input);
    let test = exact::fisher(treated, control);
    json!({"p": test.p, "p_greater": test.p_greater, "p_less": test.p_less})
}

fn unconditional(input: &Value) -> Value {
    let (treated, control) = arms(input);
    json!({
        "barnard": reference::exact::barnard(treated, control),
        "barnard_rounded": reference::exact::barnard_by(treated, control, |c, seen| c >= seen),
        "boschloo": reference::exact::boschloo(treated, control),
    })
}

fn welch(input: &Value) -> Value {
    let (x, y) = (Summary::of(&numbers(&input["x"])), Summary::of(&numbers(&input["y"])));
    let test = two_sample::welch_t(&x, &y);
    let (low, high) = (test.ci95.low, test.ci95.high);
    json!({"t": test.t, "p": test.p, "df": test.df, "low": low, "high": high})
}

fn tost(input: &Value) -> Value {
    let (x, y) = (Summary::of(&numbers(&input["x"])), Summary::of(&numbers(&input["y"])));
    let test = reference::two_sample::tost_welch(&x, &y, number(&input["margin"]));
    json!({"p": test.p, "p_lower": test.p_lower, "p_upper": test.p_upper})
}

fn paired_t(input: &Value) -> Value {
    let (x, y) = (numbers(&input["x"]), numbers(&input["y"]));
    let differences: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x - y).collect();
    let test = two_sample::paired_t(&Summary::of(&differences));
    json!({"t": test.t, "p": test.p})
}

/// Counts in bins as narrow as the distance between values.
fn binned(values: &[f64], of: &[f64]) -> Vec<u64> {
    // -0 and 0 are one bin.
    let mut bins: Vec<f64> = of.iter().map(|o| o + 0.0).collect();
    bins.sort_by(f64::total_cmp);
    bins.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let in_bin =
        |bin: &f64| values.iter().filter(|f| (**f + 0.0).total_cmp(bin).is_eq()).count() as u64;
    bins.iter().map(in_bin).collect()
}

fn mann_whitney(input: &Value) -> Value {
    let (x, y) = (numbers(&input["x"]), numbers(&input["y"]));
    let test = ranks::mann_whitney(&x, &y);
    let all = [x.clone(), y.clone()].concat();
    let binned = ranks::mann_whitney_binned(&binned(&x, &all), &binned(&y, &all));
    json!({
        "u": test.u,
        "p": test.p,
        "p_exact": test.p_exact,
        "u_binned": binned.u,
        "p_binned": binned.p,
        "p_exact_binned": binned.p_exact,
    })
}

fn kolmogorov_smirnov(input: &Value) -> Value {
    let test = reference::ranks::kolmogorov_smirnov(&numbers(&input["x"]), &numbers(&input["y"]));
    json!({"d": test.d, "p": test.p, "p_limit": test.p_limit})
}

fn mcnemar(input: &Value) -> Value {
    let (stable, candidate) = (count(&input["b"]), count(&input["c"]));
    let test = agreement::mcnemar(Discordant { stable, candidate });
    json!({
        "p_exact": test.p_exact,
        "p_mid": test.p_mid,
        "chi2": test.chi2,
        "p_chi2": test.p_chi2,
        "chi2_corrected": test.chi2_corrected,
        "p_chi2_corrected": test.p_chi2_corrected,
    })
}

fn delong(input: &Value) -> Value {
    let labels = input["labels"].as_array().expect("a list");
    let labels: Vec<bool> = labels.iter().map(|l| l.as_bool().expect("a class")).collect();
    let (first, second) = (numbers(&input["first"]), numbers(&input["second"]));
    let test = roc::paired(&labels, &first, &second);
    let of_class = |wanted: bool| {
        let cases = labels.iter().zip(&first).filter(|(label, _)| **label == wanted);
        binned(&cases.map(|(_, score)| *score).collect::<Vec<_>>(), &first)
    };
    let binned = roc::binned(&of_class(true), &of_class(false));
    json!({
        "first": test.first.area,
        "second": test.second.area,
        "variance_first": test.first.variance,
        "variance_second": test.second.variance,
        "covariance": test.covariance,
        "z": test.z,
        "binned": binned.area,
        "variance_binned": binned.variance,
    })
}

fn kappa(input: &Value) -> Value {
    let cells: Vec<Vec<u64>> =
        input["cells"].as_array().expect("a table").iter().map(counts).collect();
    let test = reference::agreement::kappa(&cells);
    json!({
        "agreement": test.agreement,
        "kappa": test.kappa,
        "error": test.error,
        "error_null": test.error_null,
    })
}

fn interval(input: &Value) -> Value {
    let rate = Rate { events: count(&input["x"]), n: count(&input["n"]) };
    let alpha = number(&input["alpha"]);
    let (wilson, exact) = (
        reference::two_sample::wilson(rate, alpha),
        reference::exact::clopper_pearson(rate, alpha),
    );
    json!({
        "wilson_low": wilson.low,
        "wilson_high": wilson.high,
        "exact_low": exact.low,
        "exact_high": exact.high,
    })
}

fn newcombe(input: &Value) -> Value {
    let (treated, control) = arms(input);
    let interval = reference::two_sample::newcombe(treated, control, number(&input["alpha"]));
    json!({"low": interval.low, "high": interval.high})
}

fn chi_square(input: &Value) -> Value {
    let test = split::chi_square(&counts(&input["counts"]), &numbers(&input["weights"]));
    json!({"chi2": test.chi2, "p": test.p})
}
