//! E-processes.

use serde_json::{Value, json};
use serinus_stats::bounded_bet::{Bets, Range};
use serinus_stats::ipw_bet::{self, Counts, Design, Stratum};
use serinus_stats::paired_bet::{self, PairedCounts, PairedStratum};
use serinus_stats::prior::{GRID, Prior};
use serinus_stats::rr_mix::{self, Coverage, EventStratum};
use serinus_stats::side::{Null, Side};
use serinus_stats::special::log_sum_exp;
use serinus_stats::split;
use serinus_stats::two_sample::{self, Rate};

use super::{Function, f, fs, items, list, n, ns, number, numbers};

pub(super) const TABLE: &[(&str, Function)] = &[
    ("mde_prior", mde_prior),
    ("ipw_bet_log_e", ipw_bet_log_e),
    ("paired_bet_log_e", paired_bet_log_e),
    ("bounded_bet_log_e", bounded_bet_log_e),
    ("rr_mix_log_e", rr_mix_log_e),
    ("label_parity", label_parity),
    ("multinomial_log_e", multinomial_log_e),
];

fn side(value: &Value) -> Side {
    if f(value) > 0.0 { Side::Greater } else { Side::Less }
}

fn mde_prior(input: &Value) -> Value {
    let prior = Prior::planned(f(&input["mde"]));
    json!({"grid": list(&prior.effects), "weights": list(&prior.log_weights.map(f64::exp))})
}

fn ipw_bet_log_e(input: &Value) -> Value {
    let null = Null { at: f(&input["m0"]), side: side(&input["side"]) };
    let prior = Prior::planned(f(&input["mde"]));
    let strata: Vec<Stratum> = items(&input["stages"])
        .iter()
        .map(|i| Stratum {
            propensity: f(&i["rho"]),
            base: f(&i["base"]),
            centre: f(&i["base"]),
            counts: Counts {
                treated: n(&i["n1"]),
                treated_events: n(&i["e1"]),
                control: n(&i["n0"]),
                control_events: n(&i["e0"]),
            },
        })
        .collect();
    let first = Design::new(strata[0].propensity, strata[0].base, null, &prior);
    json!({
        "lambdas_first_stage": list(first.lambdas()),
        "log_e": number(ipw_bet::log_e(&strata, null, &prior)),
    })
}

fn paired_bet_log_e(input: &Value) -> Value {
    let null = Null { at: f(&input["m0"]), side: side(&input["side"]) };
    let counts = PairedCounts {
        plus: n(&input["n_plus"]),
        minus: n(&input["n_minus"]),
        zero: n(&input["n_zero"]),
    };
    let stratum = PairedStratum { discordance: f(&input["disc"]), counts };
    numbers([("log_e", paired_bet::log_e(&[stratum], null, &Prior::planned(f(&input["mde"]))))])
}

/// Sums the exact factors and checks the fixed-point sums: below them by at most 2^-40 per observation.
fn bounded_bet_log_e(input: &Value) -> Value {
    let (ys, zs) = (fs(&input["y"]), fs(&input["z"]));
    let range = Range { low: 0.0, high: 1.0, centre: f(&input["c"]), variance: 0.25 };
    let null = Null { at: f(&input["m0"]), side: side(&input["side"]) };
    let lambdas: [f64; GRID] = fs(&input["lambdas"]).try_into().expect("a bet for each effect");
    let weights: Vec<f64> = fs(&input["weights"]);
    let bets =
        Bets::split(range, f(&input["rho"]), null, &Prior::planned(0.1)).with_lambdas(lambdas);
    let mut sums = [0.0; GRID];
    let mut capital = serinus_stats::bounded_bet::Capital::default();
    for (y, z) in ys.iter().zip(&zs) {
        let factors = bets.log_factors(*z > 0.5, *y);
        sums.iter_mut().zip(factors).for_each(|(sum, factor)| *sum += factor);
        capital.add(&bets.increments(*z > 0.5, *y));
    }
    let slack = ys.len() as f64 * f64::exp2(-40.0);
    for (exact, floored) in sums.iter().zip(capital.log_capitals()) {
        assert!(
            floored <= exact + 1e-12 && floored >= exact - slack - 1e-12,
            "{floored} for {exact}"
        );
    }
    let terms: Vec<f64> =
        sums.iter().zip(&weights).map(|(sum, weight)| sum + weight.ln()).collect();
    json!({"log_capitals": list(&sums), "log_e": number(log_sum_exp(&terms))})
}

fn rr_mix_log_e(input: &Value) -> Value {
    let strata: Vec<EventStratum> = items(&input["stages"])
        .iter()
        .map(|i| EventStratum {
            propensity: f(&i["rho"]),
            treated_events: n(&i["e1"]),
            control_events: n(&i["e0"]),
        })
        .collect();
    let null = Null { at: f(&input["null_log_rr"]), side: side(&input["side"]) };
    numbers([("log_e", rr_mix::log_e(&strata, null, &Prior::planned(f(&input["mde_log"]))))])
}

fn label_parity(input: &Value) -> Value {
    let coverage = Coverage {
        propensity: f(&input["rho"]),
        treated: n(&input["n1"]),
        treated_labelled: n(&input["l1"]),
        control: n(&input["n0"]),
        control_labelled: n(&input["l0"]),
    };
    let fixed = two_sample::two_proportion_z(
        Rate { events: coverage.treated_labelled, n: coverage.treated },
        Rate { events: coverage.control_labelled, n: coverage.control },
    );
    numbers([("p_fixed", fixed.p_pooled), ("log_e", rr_mix::label_parity(&[coverage]))])
}

fn multinomial_log_e(input: &Value) -> Value {
    let log_e =
        split::multinomial_log_e(&ns(&input["counts"]), &fs(&input["weights"]), f(&input["k"]));
    numbers([("log_e", log_e)])
}
