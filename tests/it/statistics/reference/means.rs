//! Means, ratios and areas.

use serde_json::{Value, json};
use serinus_stats::moments::{Partial, Summary};
use serinus_stats::ratio::{self, Confusion, CovariateSums, RateStratum, RatioSums};
use serinus_stats::roc;
use serinus_stats::two_sample;

use super::{Function, f, fs, items, n, numbers};

pub(super) const TABLE: &[(&str, Function)] = &[
    ("paired_t", paired_t),
    ("merge_moments", merge_moments),
    ("ratio_delta", ratio_delta),
    ("cuped", cuped),
    ("stratified_rd", stratified_rd),
    ("confusion_delta", confusion_delta),
    ("delong", delong),
];

fn paired_t(input: &Value) -> Value {
    let summary = Summary::from_sums(f(&input["n"]), f(&input["sum"]), f(&input["sumsq"]));
    let test = two_sample::paired_t(&summary);
    numbers([("mean", summary.mean), ("var", summary.variance()), ("t", test.t), ("p_two", test.p)])
}

fn merge_moments(input: &Value) -> Value {
    let parts = items(&input["parts"]).iter().map(|i| Partial::of(&fs(i)));
    let merged = parts.fold(Partial::default(), Partial::merge).summary();
    numbers([("n", merged.n), ("mean", merged.mean), ("m2", merged.m2), ("var", merged.variance())])
}

fn delong(input: &Value) -> Value {
    let labels: Vec<bool> = fs(&input["labels"]).iter().map(|i| *i > 0.5).collect();
    let test = roc::paired(&labels, &fs(&input["scores_a"]), &fs(&input["scores_b"]));
    // One area computed in two ways gives the same value.
    let alone = roc::exact(&labels, &fs(&input["scores_a"]));
    assert_eq!(json!(alone.area), json!(test.first.area));
    numbers([
        ("auc_a", test.first.area),
        ("auc_b", test.second.area),
        ("var_a", test.first.variance),
        ("var_b", test.second.variance),
        ("cov", test.covariance),
        ("z", test.z),
    ])
}

fn ratio_delta(input: &Value) -> Value {
    let ratio = ratio::ratio_delta(&RatioSums {
        units: f(&input["k"]),
        m: f(&input["sum_m"]),
        d: f(&input["sum_d"]),
        mm: f(&input["sum_mm"]),
        dd: f(&input["sum_dd"]),
        md: f(&input["sum_md"]),
    });
    numbers([("ratio", ratio.estimate), ("var", ratio.variance), ("se", ratio.variance.sqrt())])
}

fn cuped(input: &Value) -> Value {
    let [treated, control] = ["treatment", "control"].map(|arm| {
        let field = |name: &str| f(&input[arm][name]);
        CovariateSums {
            n: field("n"),
            y: field("sum_y"),
            x: field("sum_x"),
            yy: field("sum_yy"),
            xx: field("sum_xx"),
            xy: field("sum_xy"),
        }
    });
    let cuped = ratio::cuped(&treated, &control);
    numbers([
        ("theta", cuped.theta),
        ("diff", cuped.difference),
        ("se", cuped.error),
        ("unadjusted_diff", cuped.unadjusted),
    ])
}

fn stratified_rd(input: &Value) -> Value {
    let strata: Vec<RateStratum> = items(&input["strata"])
        .iter()
        .map(|i| RateStratum { n1: n(&i["n1"]), e1: n(&i["e1"]), n0: n(&i["n0"]), e0: n(&i["e0"]) })
        .collect();
    let difference = ratio::stratified(&strata);
    numbers([
        ("rd_mh", difference.difference),
        ("var_plugin", difference.variance),
        ("var_pooled", difference.variance_pooled),
        ("naive_pooled_diff", difference.naive),
    ])
}

fn confusion_delta(input: &Value) -> Value {
    let table = Confusion {
        true_positive: n(&input["tp"]),
        false_positive: n(&input["fp"]),
        false_negative: n(&input["fn"]),
        true_negative: n(&input["tn"]),
    };
    let (precision, recall, f1, accuracy) =
        (table.precision(), table.recall(), table.f1(), table.accuracy());
    numbers([
        ("precision", precision.estimate),
        ("var_precision", precision.variance),
        ("recall", recall.estimate),
        ("var_recall", recall.variance),
        ("f1", f1.estimate),
        ("var_f1", f1.variance),
        ("accuracy", accuracy.estimate),
        ("var_accuracy", accuracy.variance),
    ])
}
