//! Recorded streams: the same first rejecting look and the same last log e-value.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use serinus_stats::asymp::{self, Estimate, Tuning};
use serinus_stats::ipw_bet::{Counts, Design};
use serinus_stats::prior::{GRID, Prior};
use serinus_stats::reference::msprt;
use serinus_stats::rr_mix::{self, EventStratum};
use serinus_stats::side::{Null, Side};
use serinus_stats::special::log_mean_of_two;
use serinus_stats::two_sample::{self, Rate};

use super::{f, items, n, ns, path};

/// The fixed parameters of a scenario.
struct Plan {
    batch: u64,
    rho: f64,
    base: f64,
    mde: f64,
    n_star: f64,
    alpha: f64,
}

/// The verdict of a method at a look: its log e-value, compared with 1 / alpha.
type Method = Box<dyn Fn(&Counts) -> f64>;

fn ipw(plan: &Plan, null: Null) -> impl Fn(&Counts) -> f64 + use<> {
    let prior = Prior::planned(plan.mde);
    let design = Design::new(plan.rho, plan.base, null, &prior);
    move |counts| {
        let mut sums = [0.0; GRID];
        design.add_to(counts, &mut sums);
        prior.mixture(&sums)
    }
}

fn rr(plan: &Plan, side: Side) -> impl Fn(&Counts) -> f64 + use<> {
    let prior = Prior::planned(((plan.base + plan.mde) / plan.base).ln());
    let propensity = plan.rho;
    move |counts| {
        let stratum = EventStratum {
            propensity,
            treated_events: counts.treated_events,
            control_events: counts.control_events,
        };
        rr_mix::log_e(&[stratum], Null { at: 0.0, side }, &prior)
    }
}

/// Rates as plug-in methods estimate them.
struct Rates {
    difference: f64,
    error: f64,
    variances: [f64; 2],
}

fn rates(counts: &Counts) -> Option<Rates> {
    if counts.treated == 0 || counts.control == 0 {
        return None;
    }
    let (n1, n0) = (counts.treated as f64, counts.control as f64);
    let (p1, p0) = (counts.treated_events as f64 / n1, counts.control_events as f64 / n0);
    let variances = [p1 * (1.0 - p1), p0 * (1.0 - p0)];
    Some(Rates {
        difference: p1 - p0,
        error: (variances[0] / n1 + variances[1] / n0).sqrt(),
        variances,
    })
}

/// Returns the method with this name.
fn method(name: &str, plan: &Plan) -> Option<Method> {
    let (greater, less) = (Null::greater(0.0), Null::less(0.0));
    Some(match name {
        "ipw_two_sided" => {
            let (up, down) = (ipw(plan, greater), ipw(plan, less));
            Box::new(move |counts| log_mean_of_two(up(counts), down(counts)))
        }
        "rr_two_sided" => {
            let (up, down) = (rr(plan, Side::Greater), rr(plan, Side::Less));
            Box::new(move |counts| log_mean_of_two(up(counts), down(counts)))
        }
        "ipw_harm_one_sided" => Box::new(ipw(plan, greater)),
        "ipw_noninferior_margin_mde" => Box::new(ipw(plan, Null::less(plan.mde))),
        "growthbook_two_sided_abs" => {
            let tuning = Tuning { alpha: plan.alpha, n_star: plan.n_star };
            Box::new(move |counts| match rates(counts) {
                // As in `GrowthBook`: no result while an arm has no variance or the control has no mean.
                Some(it) if it.variances.iter().all(|v| *v > 0.0) => {
                    let n = (counts.treated + counts.control) as f64;
                    let error = it.error;
                    asymp::log_e(&Estimate { n, difference: it.difference, error }, 0.0, tuning)
                }
                Some(_) | None => 0.0,
            })
        }
        "msprt_tau_mde" => {
            let spread = plan.mde * plan.mde;
            Box::new(move |counts| match rates(counts) {
                Some(it) => msprt::log_e_of_error(it.difference, it.error, spread, 0.0),
                None => 0.0,
            })
        }
        "naive_z" => {
            let alpha = plan.alpha;
            Box::new(move |counts| {
                let test = two_sample::two_proportion_z(
                    Rate { events: counts.treated_events, n: counts.treated },
                    Rate { events: counts.control_events, n: counts.control },
                );
                // Not an e-value: significance at this look, on the scale of one.
                if test.p_pooled < alpha { f64::INFINITY } else { 0.0 }
            })
        }
        _ => return None,
    })
}

#[test]
fn reference_streams_are_replayed() {
    let path = path("SERINUS_STAT_STREAMS", "stat-streams-public.json.gz");
    let file = File::open(&path).unwrap_or_else(|e| panic!("failed to open {path}: {e}"));
    let mut text = String::new();
    if Path::new(&path).extension().is_some_and(|e| e == "gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a gzip of text");
    } else {
        std::io::BufReader::new(file).read_to_string(&mut text).expect("text");
    }
    let recorded: Value = serde_json::from_str(&text).expect("the streams are JSON");
    let mut failures = Vec::new();
    let mut streams = 0;
    for (name, scenario) in recorded["scenarios"].as_object().expect("scenarios") {
        streams += replay(name, scenario, &mut failures);
    }
    println!("{streams} streams");
    assert!(streams > 0, "no streams in {path}");
    assert!(failures.is_empty(), "{} mismatches:\n{}", failures.len(), failures.join("\n"));
}

fn replay(scenario_name: &str, scenario: &Value, failures: &mut Vec<String>) -> usize {
    let params = &scenario["params"];
    let plan = Plan {
        batch: n(&params["batch"]),
        rho: f(&params["rho"]),
        base: f(&params["base"]),
        mde: f(&params["mde"]),
        n_star: f(&params["n_star"]),
        alpha: f(&params["alpha"]),
    };
    let streams = items(&scenario["streams"]);
    for (name, firsts) in
        scenario["first_reject_look_1based_0never"].as_object().expect("first looks")
    {
        let Some(method) = method(name, &plan) else {
            failures.push(format!("{scenario_name}: unknown method {name}"));
            continue;
        };
        for (i, stream) in streams.iter().enumerate() {
            let (first, last) = run(&method, &plan, stream);
            if first != n(&firsts[i]) {
                failures.push(format!(
                    "{scenario_name}[{i}] {name}: first look {first}, recorded {}",
                    firsts[i]
                ));
            }
            let finals = &scenario["final_log_e"][name];
            if finals.is_array() && (last - f(&finals[i])).abs() > 1e-6 {
                failures.push(format!(
                    "{scenario_name}[{i}] {name}: log e {last}, recorded {}",
                    finals[i]
                ));
            }
        }
    }
    streams.len()
}

/// Looks after every batch; returns the first rejecting look (0: none) and the last log e-value.
fn run(method: &Method, plan: &Plan, stream: &Value) -> (u64, f64) {
    let (n1, e1, e0) = (ns(&stream["n1"]), ns(&stream["e1"]), ns(&stream["e0"]));
    let bar = -plan.alpha.ln();
    let mut counts = Counts::default();
    let (mut first, mut last) = (0, 0.0);
    for (look, ((n1, e1), e0)) in (1..).zip(n1.iter().zip(&e1).zip(&e0)) {
        counts.merge(&Counts {
            treated: *n1,
            treated_events: *e1,
            control: plan.batch - n1,
            control_events: *e0,
        });
        last = method(&counts);
        if first == 0 && last > bar {
            first = look;
        }
    }
    (first, last)
}
