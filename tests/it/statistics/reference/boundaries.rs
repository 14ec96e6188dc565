//! Boundaries, confidence sequences, schedules and plans.

use serde_json::{Value, json};
use serinus_stats::agreement::Discordant;
use serinus_stats::asymp::{self, Estimate, Tuning};
use serinus_stats::interval::Interval;
use serinus_stats::planning::{self, RatePlan};
use serinus_stats::reference;
use serinus_stats::reference::mixture::{self, Mixture, Tails, Tightest};
use serinus_stats::reference::msprt::{self, Pairs};
use serinus_stats::reference::quantile;
use serinus_stats::reference::scheduled::{self, Spending};
use serinus_stats::special::p_of_log_e;

use super::{Function, f, fs, list, n, numbers};

pub(super) const TABLE: &[(&str, Function)] = &[
    ("acs", acs),
    ("msprt", msprt),
    ("t_mixture_e", t_mixture_e),
    ("normal_mixture", normal_mixture),
    ("gamma_exponential_mixture", gamma_exponential_mixture),
    ("gamma_poisson_mixture", gamma_poisson_mixture),
    ("beta_binomial_mixture", beta_binomial_mixture),
    ("bernoulli_cs", bernoulli_cs),
    ("poly_stitching_bound", poly_stitching_bound),
    ("lil_dkw_bound", lil_dkw_bound),
    ("quantile_ab_p", quantile_ab_p),
    ("quantile_cs_ranks", quantile_cs_ranks),
    ("hedged_betting", hedged_betting),
    ("mcnemar_log_e", mcnemar_log_e),
    ("alpha_spending", alpha_spending),
    ("gst_bounds", gst_bounds),
    ("sample_size", sample_size),
];

fn acs(input: &Value) -> Value {
    let estimate =
        Estimate { n: f(&input["n"]), difference: f(&input["diff"]), error: f(&input["se"]) };
    let tuning = Tuning { alpha: f(&input["alpha"]), n_star: f(&input["n_star"]) };
    let at = f(&input["d0"]);
    numbers([
        ("rho", tuning.rho()),
        ("halfwidth", asymp::half_width(&estimate, tuning)),
        ("log_e", asymp::log_e(&estimate, at, tuning)),
        ("p", asymp::p(&estimate, at, tuning)),
        ("rho_one", tuning.rho_one_sided()),
        ("halfwidth_one", asymp::half_width_one_sided(&estimate, tuning)),
    ])
}

fn msprt(input: &Value) -> Value {
    let pairs =
        Pairs { n: f(&input["n"]), difference: f(&input["diff"]), variance: f(&input["v"]) };
    let tau2 = f(&input["tau2"]);
    let log_e = msprt::log_e(&pairs, tau2, f(&input["d0"]));
    let half_width = msprt::half_width(&pairs, tau2, f(&input["alpha"]));
    numbers([("log_lr", log_e), ("p", p_of_log_e(log_e)), ("halfwidth", half_width)])
}

fn t_mixture_e(input: &Value) -> Value {
    let log_e = msprt::t_log_e(f(&input["t"]), f(&input["nu"]), f(&input["phi"]), f(&input["z2"]));
    numbers([("log_e", log_e)])
}

fn tightest(input: &Value) -> Tightest {
    Tightest { v: f(&input["v_opt"]), alpha: f(&input["alpha_opt"]) }
}

fn tails(input: &Value) -> Tails {
    if input["one_sided"].as_bool() == Some(true) { Tails::One } else { Tails::Two }
}

fn mixture(input: &Value, mixture: Mixture) -> Value {
    let v = f(&input["v"]);
    numbers([
        ("log_m", mixture.log_e(f(&input["s"]), v)),
        ("bound", mixture.bound(v, f(&input["alpha"]))),
    ])
}

fn normal_mixture(input: &Value) -> Value {
    mixture(input, Mixture::normal(tightest(input), tails(input)))
}

fn gamma_exponential_mixture(input: &Value) -> Value {
    mixture(input, Mixture::gamma_exponential(tightest(input), f(&input["c"])))
}

fn gamma_poisson_mixture(input: &Value) -> Value {
    mixture(input, Mixture::gamma_poisson(tightest(input), f(&input["c"])))
}

fn beta_binomial_mixture(input: &Value) -> Value {
    mixture(
        input,
        Mixture::beta_binomial(tightest(input), f(&input["g"]), f(&input["h"]), tails(input)),
    )
}

fn bernoulli_cs(input: &Value) -> Value {
    let Interval { low, high } = quantile::rate_sequence(
        n(&input["k"]),
        n(&input["n"]),
        f(&input["alpha"]),
        f(&input["t_opt"]),
        f(&input["alpha_opt"]),
    );
    numbers([("lo", low), ("hi", high)])
}

fn poly_stitching_bound(input: &Value) -> Value {
    let field = |name: &str| f(&input[name]);
    let bound = mixture::poly_stitching_bound(
        field("v"),
        field("alpha"),
        field("v_min"),
        field("c"),
        field("s"),
        field("eta"),
    );
    numbers([("bound", bound)])
}

fn lil_dkw_bound(input: &Value) -> Value {
    let bound = quantile::distribution_band(
        f(&input["t"]),
        f(&input["alpha"]),
        f(&input["t_min"]),
        f(&input["A"]),
    );
    numbers([("bound", bound)])
}

fn quantile_ab_p(input: &Value) -> Value {
    let q = f(&input["quantile"]);
    let at = Tightest { v: f(&input["t_opt"]) * q * (1.0 - q), alpha: f(&input["alpha_opt"]) };
    numbers([("p", quantile::ab_p(&fs(&input["x"]), &fs(&input["y"]), q, at))])
}

fn quantile_cs_ranks(input: &Value) -> Value {
    let field = |name: &str| f(&input[name]);
    let ranks = quantile::sequence_ranks(
        field("t"),
        field("p"),
        field("t_opt"),
        field("alpha"),
        field("alpha_opt"),
    );
    numbers([
        ("lower_radius", ranks.lower_radius),
        ("upper_radius", ranks.upper_radius),
        ("lower_rank", ranks.lower_rank),
        ("upper_rank", ranks.upper_rank),
    ])
}

fn hedged_betting(input: &Value) -> Value {
    let [plus, minus, capital] =
        mixture::hedged_betting(&fs(&input["x"]), f(&input["m"]), f(&input["alpha"]));
    numbers([("log_k_plus", plus), ("log_k_minus", minus), ("log_capital", capital)])
}

fn mcnemar_log_e(input: &Value) -> Value {
    let pairs = Discordant { stable: n(&input["b"]), candidate: n(&input["c"]) };
    numbers([("log_e", reference::agreement::mcnemar_log_e(pairs, f(&input["k"])))])
}

fn spending(name: &str, phi: f64) -> Spending {
    match name {
        "obf" => Spending::ObrienFleming,
        "pocock" => Spending::Pocock,
        "power" => Spending::Power { phi },
        _ => panic!("unknown spending {name}"),
    }
}

fn alpha_spending(input: &Value) -> Value {
    let (alpha, t, phi) = (f(&input["alpha"]), f(&input["t"]), f(&input["phi"]));
    numbers(["obf", "pocock", "power"].map(|name| (name, spending(name, phi).spent(alpha, t))))
}

fn gst_bounds(input: &Value) -> Value {
    let name = input["spending"].as_str().expect("a spending function");
    let tails = if n(&input["sides"]) == 1 { Tails::One } else { Tails::Two };
    let spending = spending(name, f(&input["phi"]));
    json!({"z": list(&scheduled::bounds(&fs(&input["t"]), f(&input["alpha"]), spending, tails))})
}

fn sample_size(input: &Value) -> Value {
    let plan = RatePlan {
        base: f(&input["p0"]),
        difference: f(&input["delta"]),
        margin: f(&input["margin"]),
        propensity: f(&input["rho"]),
    };
    let alpha = f(&input["alpha"]);
    let tail = if input["one_sided"].as_bool() == Some(true) { alpha } else { 0.5 * alpha };
    let size = planning::fixed_size(&plan, tail, f(&input["power"]));
    numbers([("n1", size.treated), ("n0", size.control), ("total", size.treated + size.control)])
}
