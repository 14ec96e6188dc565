//! Rates, counts and corrections for many hypotheses.

use serde_json::{Value, json};
use serinus_stats::bayes::{self, Comparison};
use serinus_stats::beta;
use serinus_stats::exact;
use serinus_stats::moments::Summary;
use serinus_stats::multiple;
use serinus_stats::quadrature::integral;
use serinus_stats::reference;
use serinus_stats::split;
use serinus_stats::two_sample::{self, Rate};

use super::{Function, f, fs, list, n, ns, number, numbers};

pub(super) const TABLE: &[(&str, Function)] = &[
    ("two_proportion_z", two_proportion_z),
    ("wilson_ci", wilson_ci),
    ("clopper_pearson_ci", clopper_pearson_ci),
    ("newcombe_diff_ci", newcombe_diff_ci),
    ("score_test_diff", score_test_diff),
    ("welch_t", welch_t),
    ("tost_welch", tost_welch),
    ("fisher_exact", fisher_exact),
    ("barnard_exact", barnard_exact),
    ("beta_ab", beta_ab),
    ("normal_posterior", normal_posterior),
    ("srm_chi2", srm_chi2),
    ("multiple_testing", multiple_testing),
    ("e_multiple", e_multiple),
];

pub(super) fn rate(input: &Value, events: &str, among: &str) -> Rate {
    Rate { events: n(&input[events]), n: n(&input[among]) }
}

fn two_proportion_z(input: &Value) -> Value {
    let test = two_sample::two_proportion_z(rate(input, "x1", "n1"), rate(input, "x0", "n0"));
    numbers([
        ("diff", test.difference),
        ("z_pooled", test.z_pooled),
        ("p_two_pooled", test.p_pooled),
        ("ln_p_two_pooled", test.ln_p_pooled),
        ("z_unpooled", test.z_unpooled),
        ("p_two_unpooled", test.p_unpooled),
        ("wald95_lo", test.wald95.low),
        ("wald95_hi", test.wald95.high),
    ])
}

fn wilson_ci(input: &Value) -> Value {
    let interval = reference::two_sample::wilson(rate(input, "x", "n"), f(&input["alpha"]));
    numbers([("lo", interval.low), ("hi", interval.high)])
}

fn clopper_pearson_ci(input: &Value) -> Value {
    let interval = reference::exact::clopper_pearson(rate(input, "x", "n"), f(&input["alpha"]));
    numbers([("lo", interval.low), ("hi", interval.high)])
}

fn newcombe_diff_ci(input: &Value) -> Value {
    let interval = reference::two_sample::newcombe(
        rate(input, "x1", "n1"),
        rate(input, "x0", "n0"),
        f(&input["alpha"]),
    );
    numbers([("lo", interval.low), ("hi", interval.high)])
}

/// With a margin of 0 the reference values are the restricted maximum likelihood estimate, like ours. With another margin they are
/// those of statsmodels, whose cubic has `count0` where Miettinen and Nurminen (1985) have `nobs0`: its rate does not maximize the
/// likelihood. So our rate is checked against the likelihood, and the statistic against the values at their rate.
fn score_test_diff(input: &Value) -> Value {
    let (treated, control) = (rate(input, "x1", "n1"), rate(input, "x0", "n0"));
    let margin = f(&input["margin"]);
    let test = if margin == 0.0 {
        reference::two_sample::score_test(treated, control, margin)
    } else {
        let theirs = statsmodels_rate(treated, control, margin);
        let ours = reference::two_sample::restricted_rate(treated, control, margin);
        let likelihood = |q: f64| ln_likelihood(treated, q + margin) + ln_likelihood(control, q);
        assert!(
            likelihood(ours) >= likelihood(theirs) - 1e-9,
            "{ours} is less likely than {theirs}"
        );
        reference::two_sample::score_test_at(treated, control, margin, theirs)
    };
    numbers([
        ("z_fm", test.z),
        ("p_larger_fm", test.p_larger),
        ("z_mn", test.z_mn),
        ("p_larger_mn", test.p_larger_mn),
    ])
}

fn ln_likelihood(rate: Rate, p: f64) -> f64 {
    let term = |count: f64, p: f64| if count > 0.0 { count * p.ln() } else { 0.0 };
    term(rate.events as f64, p) + term((rate.n - rate.events) as f64, 1.0 - p)
}

fn statsmodels_rate(treated: Rate, control: Rate, margin: f64) -> f64 {
    let (n1, n0) = (treated.n as f64, control.n as f64);
    let (count, count0) = ((treated.events + control.events) as f64, control.events as f64);
    let cubic = n1 + n0;
    let square = (n1 + 2.0 * n0) * margin - cubic - count;
    let linear = (count0 * margin - cubic - 2.0 * count0) * margin + count;
    let constant = count0 * margin * (1.0 - margin);
    let third = square / (3.0 * cubic);
    let q = third.powi(3) - linear * square / (6.0 * cubic * cubic) + constant / (2.0 * cubic);
    let p = (third * third - linear / (3.0 * cubic)).sqrt().copysign(q);
    let angle = (std::f64::consts::PI + (q / p.powi(3)).acos()) / 3.0;
    2.0 * p * angle.cos() - third
}

fn arms(input: &Value) -> [Summary; 2] {
    ["1", "0"].map(|arm| {
        let field = |name: &str| f(&input[format!("{name}{arm}")]);
        Summary::from_variance(field("n"), field("mean"), field("var"))
    })
}

fn welch_t(input: &Value) -> Value {
    let [treated, control] = arms(input);
    let test = two_sample::welch_t(&treated, &control);
    numbers([
        ("t", test.t),
        ("df", test.df),
        ("p_two", test.p),
        ("ci95_lo", test.ci95.low),
        ("ci95_hi", test.ci95.high),
    ])
}

fn tost_welch(input: &Value) -> Value {
    let [treated, control] = arms(input);
    let test = reference::two_sample::tost_welch(&treated, &control, f(&input["margin"]));
    numbers([("p_lower", test.p_lower), ("p_upper", test.p_upper), ("p", test.p)])
}

fn srm_chi2(input: &Value) -> Value {
    let test = split::chi_square(&ns(&input["counts"]), &fs(&input["weights"]));
    numbers([("chi2", test.chi2), ("p", test.p)])
}

fn multiple_testing(input: &Value) -> Value {
    let p = fs(&input["p"]);
    json!({
        "bonferroni": list(&reference::multiple::bonferroni(&p)),
        "holm": list(&reference::multiple::holm(&p)),
        "hochberg": list(&reference::multiple::hochberg(&p)),
        "bh": list(&reference::multiple::bh(&p)),
        "by": list(&reference::multiple::by(&p)),
    })
}

fn e_multiple(input: &Value) -> Value {
    let log_e = fs(&input["log_e"]);
    let alpha = f(&input["alpha"]);
    json!({
        "e_bonferroni": reference::multiple::e_bonferroni(&log_e, alpha),
        "e_holm": reference::multiple::e_holm(&log_e, alpha),
        "e_bh": multiple::e_bh(&log_e, alpha),
        "log_mean_e": number(serinus_stats::special::log_mean_exp(&log_e)),
    })
}

fn fisher_exact(input: &Value) -> Value {
    let test = exact::fisher(rate(input, "x1", "n1"), rate(input, "x0", "n0"));
    numbers([("p_two", test.p), ("p_greater", test.p_greater), ("p_less", test.p_less)])
}

/// The reference passed tables to scipy by rows where it takes groups by columns, so its values compare the treated share among
/// events with that among non-events. Our functions get the same tables, and compare statistics to the last bit like scipy
/// does, which drops tables that tie up to rounding (8/15 and 6/11 where 7/15 and 5/11 were seen).
fn barnard_exact(input: &Value) -> Value {
    let (first, second) = (rate(input, "x1", "n1"), rate(input, "x0", "n0"));
    let events = first.events + second.events;
    let treated = Rate { events: first.events, n: events };
    let control = Rate { events: first.n - first.events, n: first.n + second.n - events };
    let p_barnard =
        reference::exact::barnard_by(treated, control, |statistic, seen| statistic >= seen);
    numbers([
        ("p_barnard", p_barnard),
        ("p_boschloo", reference::exact::boschloo(treated, control)),
    ])
}

/// The reference values for `P(p1 > p0)` drop the part more than 12 standard deviations above the mean of `p1`: half a millionth for
/// an arm without events, where the truth is a fraction (61/112 for 0 of 50 against 0 of 60). Ours drops the same part here.
fn beta_ab(input: &Value) -> Value {
    let (treated, control) = (rate(input, "x1", "n1"), rate(input, "x0", "n0"));
    let (a, b) = (f(&input["prior_a"]), f(&input["prior_b"]));
    let Comparison { greater, loss_candidate, loss_stable } =
        bayes::beta_comparison(treated, control, a, b);
    let posterior = |rate: Rate| (a + rate.events as f64, b + (rate.n - rate.events) as f64);
    let ((a1, b1), (a0, b0)) = (posterior(treated), posterior(control));
    let mean = a1 / (a1 + b1);
    let far = mean + 12.0 * (mean * (1.0 - mean) / (a1 + b1 + 1.0)).sqrt();
    let left_out =
        integral(far.min(1.0), 1.0, 40, |x| beta::beta_pdf(a1, b1, x) * beta::beta_cdf(a0, b0, x));
    assert!(left_out < 1e-5, "{left_out} is not a far tail");
    numbers([
        ("prob_1_gt_0", greater - left_out),
        ("loss_choose_1", loss_candidate),
        ("loss_choose_0", loss_stable),
    ])
}

fn normal_posterior(input: &Value) -> Value {
    let (difference, error) = (f(&input["diff"]), f(&input["se"]));
    let posterior = if input["proper"].as_bool() == Some(true) {
        bayes::normal_posterior(difference, error, f(&input["prior_mean"]), f(&input["prior_var"]))
    } else {
        bayes::flat_posterior(difference, error)
    };
    numbers([
        ("mean", posterior.mean),
        ("sd", posterior.deviation),
        ("chance_to_win", posterior.comparison.greater),
        ("risk_treatment", posterior.comparison.loss_candidate),
        ("risk_control", posterior.comparison.loss_stable),
    ])
}
