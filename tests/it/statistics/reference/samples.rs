//! Whole samples: ranks, sketches, histograms, tables, hashes.

use serde_json::{Map, Value, json};
use serinus_stats::agreement::{self, Discordant};
use serinus_stats::drift;
use serinus_stats::ranks;
use serinus_stats::reference;
use serinus_stats::reference::completeness;
use serinus_stats::reference::hash;
use serinus_stats::reference::quantile;
use serinus_stats::sketch::{self, Sketch};
use xxhash_rust::xxh3::xxh3_64;

use super::{Function, f, fs, items, list, n, ns, number, numbers};

pub(super) const TABLE: &[(&str, Function)] = &[
    ("mann_whitney_u", mann_whitney_u),
    ("ks_2samp", ks_2samp),
    ("mcnemar", mcnemar),
    ("cohens_kappa", cohens_kappa),
    ("drift", drift),
    ("psi_threshold", psi_threshold),
    ("order_stat_ci", order_stat_ci),
    ("ddsketch", ddsketch),
    ("hash", hashes),
    ("label_completeness", label_completeness),
];

fn mann_whitney_u(input: &Value) -> Value {
    let test = ranks::mann_whitney(&fs(&input["x"]), &fs(&input["y"]));
    json!({
        "u1": number(test.u),
        "p_two_asymp": number(test.p),
        "p_exact": test.p_exact.map_or(Value::Null, number),
        "cles": number(test.superiority),
    })
}

fn ks_2samp(input: &Value) -> Value {
    let test = reference::ranks::kolmogorov_smirnov(&fs(&input["x"]), &fs(&input["y"]));
    numbers([("d", test.d), ("p_asymp_scipy", test.p), ("p_kolmogorov", test.p_limit)])
}

fn mcnemar(input: &Value) -> Value {
    let test = agreement::mcnemar(Discordant { stable: n(&input["b"]), candidate: n(&input["c"]) });
    numbers([
        ("p_exact", test.p_exact),
        ("p_mid", test.p_mid),
        ("chi2", test.chi2),
        ("p_chi2", test.p_chi2),
        ("chi2_cc", test.chi2_corrected),
        ("p_chi2_cc", test.p_chi2_corrected),
    ])
}

fn cohens_kappa(input: &Value) -> Value {
    let table: Vec<Vec<u64>> = items(&input["table"]).iter().map(ns).collect();
    let kappa = reference::agreement::kappa(&table);
    numbers([
        ("agreement", kappa.agreement),
        ("kappa", kappa.kappa),
        ("std_kappa", kappa.error),
        ("std_kappa0", kappa.error_null),
    ])
}

fn drift(input: &Value) -> Value {
    let drift = drift::drift(&ns(&input["reference"]), &ns(&input["current"]));
    numbers([
        ("psi", drift.psi),
        ("kl", drift.kl),
        ("js_nat", drift.js),
        ("js_distance_base2", drift.js_distance),
        ("tv", drift.tv),
        ("hellinger", drift.hellinger),
        ("ks", drift.ks),
        ("w1", drift.w1),
    ])
}

fn psi_threshold(input: &Value) -> Value {
    let (reference, current, bins) = (f(&input["n_ref"]), f(&input["n_cur"]), f(&input["bins"]));
    numbers([
        ("expected_psi", drift::psi_expected(reference, current, bins)),
        ("critical", drift::psi_critical(reference, current, bins, f(&input["alpha"]))),
    ])
}

fn order_stat_ci(input: &Value) -> Value {
    let ranks = quantile::order_statistics(n(&input["n"]), f(&input["p"]), f(&input["alpha"]));
    numbers([
        ("lower_rank", ranks.lower as f64),
        ("upper_rank", ranks.upper as f64),
        ("coverage", ranks.coverage),
    ])
}

fn ddsketch(input: &Value) -> Value {
    let values = fs(&input["values"]);
    // Merging two halves gives the same result.
    let mut whole = Sketch::default();
    let (left, right) = values.split_at(values.len() / 2);
    for half in [left, right] {
        let mut sketch = Sketch::default();
        for value in half {
            sketch.insert(*value);
        }
        whole.merge(&sketch);
    }
    let keys: Vec<i32> = values.iter().take(5).filter_map(|i| sketch::key(*i)).collect();
    let quantiles = ["0.0", "0.25", "0.5", "0.9", "0.95", "0.99", "0.999", "1.0"].map(|text| {
        let q: f64 = text.parse().expect("a quantile");
        (text.to_owned(), whole.quantile(q).map_or(Value::Null, number))
    });
    json!({"keys_first5": keys, "q": quantiles.into_iter().collect::<Map<_, _>>(), "n": whole.count()})
}

fn hashes(input: &Value) -> Value {
    let (salt, id) =
        (input["salt"].as_str().expect("a salt"), input["id"].as_str().expect("an id"));
    let joined = format!("{salt}{id}");
    let ours = xxh3_64(format!("{salt}\u{1f}{id}").as_bytes());
    let point = hash::point(ours);
    json!({
        "fnv1a32": hash::fnv1a32(joined.as_bytes()),
        "growthbook_v2": hash::growthbook_v2(salt, id),
        "murmur3_32": hash::murmur3_32(joined.as_bytes(), 0),
        "xxh64": hash::xxh64(joined.as_bytes()).to_string(),
        "xxh3_64": ours.to_string(),
        "u": point,
        "bucket10000": (point * 10_000.0).floor(),
    })
}

fn label_completeness(input: &Value) -> Value {
    let triangle: Vec<Vec<Option<f64>>> = items(&input["triangle"])
        .iter()
        .map(|cohort| {
            items(cohort).iter().map(|c| if c.is_null() { None } else { Some(f(c)) }).collect()
        })
        .collect();
    let ladder = completeness::chain_ladder(&triangle);
    json!({"factors": list(&ladder.factors), "G": list(&ladder.arrived)})
}
