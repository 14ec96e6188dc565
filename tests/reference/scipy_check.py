"""Computes with scipy and statsmodels what stats/ has computed, and tells where the two differ.

Reads a JSON list of `{"test": NAME, "input": {...}, "ours": {FIGURE: NUMBER}}` from stdin. Prints each figure that differs, then how
many were compared; a figure that is null in ours is not a number. What neither package has (DeLong, the restricted likelihood
of a score test with a margin, Barnard's tables in exact arithmetic) is computed here from its definition, by the slowest and
plainest way there is.

Where a statistic is 0/0 or x/0, the packages say nan or infinity as it happens. There ours is held to what it promises: no
difference is a statistic of 0, a difference without an error is no number.
"""

import json
import math
import sys
import warnings
from fractions import Fraction

import numpy as np
from scipy import optimize, special, stats
from statsmodels.stats import contingency_tables, inter_rater, proportion, weightstats

warnings.filterwarnings("ignore")
# Relative and absolute tolerance; a test with another pair passes it with its values.
CLOSE = (1e-7, 1e-10)
# Both sides maximize over a rate numerically.
MAXIMISED = (1e-6, 1e-7)


def without_error(difference, statistic, p, p_of_none=1.0):
    """The promise about these two figures where there is nothing to measure a difference by."""
    return {statistic: math.nan, p: math.nan} if difference else {statistic: 0.0, p: p_of_none}


def two_proportion_z(x1, n1, x0, n0):
    pooled = proportion.proportions_ztest([x1, x0], [n1, n0])
    wald = proportion.test_proportions_2indep(x1, n1, x0, n0, method="wald", compare="diff")
    low, high = proportion.confint_proportions_2indep(x1, n1, x0, n0, method="wald", compare="diff")
    theirs = {
        "z_pooled": pooled[0], "p_pooled": pooled[1], "z_unpooled": wald.statistic, "p_unpooled": wald.pvalue,
        "wald95_low": low, "wald95_high": high,
    }
    if x1 in (0, n1) and x0 in (0, n0):
        difference = x1 / n1 - x0 / n0
        theirs |= without_error(difference, "z_unpooled", "p_unpooled")
        if not difference:
            theirs |= without_error(difference, "z_pooled", "p_pooled")
    return theirs


def restricted_rate(x1, n1, x0, n0, margin):
    """The most likely rate of the control given the difference: where the likelihood has no slope, or at an end."""
    def slope(q):
        parts = ((x1, q + margin), (x1 - n1, 1 - q - margin), (x0, q), (x0 - n0, 1 - q))
        return sum(np.float64(count) / np.float64(rate) for count, rate in parts if count)

    def likelihood(q):
        return (
            special.xlogy(x1, q + margin) + special.xlog1py(n1 - x1, -q - margin)
            + special.xlogy(x0, q) + special.xlog1py(n0 - x0, -q)
        )
    low, high = max(0.0, -margin), min(1.0, 1.0 - margin)
    first, last = np.nextafter(low, 1.0), np.nextafter(high, 0.0)
    if not slope(first) > 0:
        q = low
    elif not slope(last) < 0:
        q = high
    else:
        q = optimize.brentq(slope, first, last, xtol=1e-300, rtol=1e-15)
    # The slope is our own definition; the likelihood is not.
    best = np.nanmax(likelihood(np.linspace(first, last, 1001)))
    assert likelihood(min(max(q, first), last)) >= best - 1e-9 * (1 + abs(best)), (x1, n1, x0, n0, margin, q)
    return q


def score(x1, n1, x0, n0, margin):
    if margin == 0.0:
        if x1 + x0 in (0, n1 + n0):
            return without_error(0.0, "z", "p", 0.5) | without_error(0.0, "z_mn", "p_mn", 0.5)
        # statsmodels' own; with a margin, its cubic does not give the most likely rate.
        theirs = {}
        for name, correction in (("", False), ("_mn", True)):
            test = proportion.test_proportions_2indep(
                x1, n1, x0, n0, value=0.0, method="score", compare="diff", correction=correction, alternative="larger"
            )
            theirs |= {"z" + name: test.statistic, "p" + name: test.pvalue}
        return theirs
    q = restricted_rate(x1, n1, x0, n0, margin)
    variance = (q + margin) * (1 - q - margin) / n1 + q * (1 - q) / n0
    gap = x1 / n1 - x0 / n0 - margin
    z = gap / math.sqrt(variance)
    z_mn = gap / math.sqrt(variance * (n1 + n0) / (n1 + n0 - 1))
    return {"z": z, "p": stats.norm.sf(z), "z_mn": z_mn, "p_mn": stats.norm.sf(z_mn)}


def table(x1, n1, x0, n0):
    return [[x1, n1 - x1], [x0, n0 - x0]]


def fisher(x1, n1, x0, n0):
    of = lambda side: stats.fisher_exact(table(x1, n1, x0, n0), alternative=side)[1]
    return {"p": of("two-sided"), "p_greater": of("greater"), "p_less": of("less")}


def barnard(x1, n1, x0, n0):
    """The greatest chance over the rate in common of a table as extreme, ties told in fractions."""
    def squared(a, b):
        gap, pooled = Fraction(a, n1) - Fraction(b, n0), Fraction(a + b, n1 + n0)
        return gap**2 / (pooled * (1 - pooled) * (Fraction(1, n1) + Fraction(1, n0))) if gap else 0
    seen = squared(x1, x0)
    chosen = np.array([[squared(a, b) >= seen for b in range(n0 + 1)] for a in range(n1 + 1)])

    def chance(rate):
        laws = (stats.binom.pmf(np.arange(n + 1), n, rate) for n in (n1, n0))
        return (np.outer(*laws) * chosen).sum()
    rates = np.linspace(0, 1, 2001)
    best = rates[np.argmax([chance(it) for it in rates])]
    around = (max(best - 5e-4, 0.0), min(best + 5e-4, 1.0))
    finest = optimize.minimize_scalar(lambda it: -chance(it), bounds=around, method="bounded", options={"xatol": 1e-9})
    return min(max(chance(best), -finest.fun), 1.0)


def unconditional(x1, n1, x0, n0):
    columns = np.array(table(x1, n1, x0, n0)).T
    return {
        "barnard": barnard(x1, n1, x0, n0),
        # scipy drops tables that tie up to rounding; ours does the same if requested.
        "barnard_rounded": stats.barnard_exact(columns, n=128).pvalue,
        "boschloo": stats.boschloo_exact(columns, n=128).pvalue,
    }, MAXIMISED


def no_spread(*samples):
    return all(len(set(it)) == 1 for it in samples)


def welch(x, y):
    if min(len(x), len(y)) < 2:
        # One value has no variance. scipy agrees, but reports one degree of freedom.
        return dict.fromkeys(("t", "p", "df", "low", "high"), math.nan)
    if no_spread(x, y):
        # The interval is the whole line, whose ends JSON cannot express.
        theirs = {"df": math.nan, "low": math.nan, "high": math.nan}
        return theirs | without_error(x[0] - y[0], "t", "p")
    test = stats.ttest_ind(x, y, equal_var=False)
    interval = test.confidence_interval(0.95)
    return {"t": test.statistic, "p": test.pvalue, "df": test.df, "low": interval.low, "high": interval.high}


def tost(x, y, margin):
    if no_spread(x, y) or min(len(x), len(y)) < 2:
        return {"p": math.nan, "p_lower": math.nan, "p_upper": math.nan}
    p, lower, upper = weightstats.ttost_ind(np.array(x), np.array(y), -margin, margin, usevar="unequal")
    return {"p": p, "p_lower": lower[1], "p_upper": upper[1]}


def paired_t(x, y):
    if len(x) < 2:
        return {"t": math.nan, "p": math.nan}
    differences = np.subtract(x, y)
    if np.std(differences) <= 4 * np.finfo(float).eps * abs(differences.mean()):
        # Equal, or different by rounding, where scipy warns of lost precision.
        return without_error(x[0] - y[0], "t", "p")
    test = stats.ttest_rel(x, y)
    return {"t": test.statistic, "p": test.pvalue}


def mann_whitney(x, y):
    test = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=True)
    theirs = {"u": test.statistic, "p": test.pvalue, "u_binned": test.statistic, "p_binned": test.pvalue}
    # Ours is for small samples only.
    if len(set(x + y)) == len(x + y) and len(x) * len(y) <= 10_000:
        theirs["p_exact"] = theirs["p_exact_binned"] = stats.mannwhitneyu(x, y, method="exact").pvalue
    return theirs


def kolmogorov_smirnov(x, y):
    test = stats.ks_2samp(x, y, method="asymp")
    size = len(x) * len(y) / (len(x) + len(y))
    return {
        "d": test.statistic, "p": test.pvalue, "p_limit": stats.kstwobign.sf(math.sqrt(size) * test.statistic),
    }, (1e-6, 1e-9)


def mcnemar(b, c):
    cells = [[0, b], [c, 0]]
    exact = contingency_tables.mcnemar(cells, exact=True).pvalue
    theirs = {
        "p_exact": exact,
        # Fagerland, Lydersen and Laake 2013: if both tails meet at one count, it is 1.
        "p_mid": 1.0 if b == c else exact - stats.binom.pmf(min(b, c), b + c, 0.5),
    }
    for name, correction in (("", False), ("_corrected", True)):
        test = contingency_tables.mcnemar(cells, exact=False, correction=correction)
        theirs |= {"chi2" + name: test.statistic, "p_chi2" + name: test.pvalue}
        if b + c == 0:
            theirs |= without_error(0.0, "chi2" + name, "p_chi2" + name)
    return theirs


def placed(labels, scores):
    """Each pair of a positive and a negative: 1 where the positive scores more, 1/2 where they tie."""
    labels, scores = np.array(labels), np.array(scores)
    positive, negative = scores[labels][:, None], scores[~labels][None, :]
    return (positive > negative) + 0.5 * (positive == negative)


def covariance(a, b):
    m, n = a.shape
    of = lambda x, y: np.cov(x, y)[0, 1]
    return of(a.mean(axis=1), b.mean(axis=1)) / m + of(a.mean(axis=0), b.mean(axis=0)) / n


def delong(labels, first, second):
    a, b = placed(labels, first), placed(labels, second)
    shared = covariance(a, b)
    own = covariance(a, a) + covariance(b, b)
    variance = own - 2 * shared
    # Equally ranked scores do not differ; otherwise a difference needs a variance beyond rounding errors.
    z = 0.0 if (a == b).all() else math.nan
    if variance > 1e-13 * own:
        z = (b.mean() - a.mean()) / math.sqrt(variance)
    return {
        "first": a.mean(), "second": b.mean(), "variance_first": covariance(a, a), "variance_second": covariance(b, b),
        "covariance": shared, "z": z,
        "binned": a.mean(), "variance_binned": covariance(a, a),
    }


def kappa(cells):
    theirs = inter_rater.cohens_kappa(np.array(cells))
    total = np.array(cells, dtype=float)
    agreement = np.trace(total) / total.sum()
    figures = {"agreement": agreement, "kappa": theirs.kappa, "error": theirs.std_kappa, "error_null": theirs.std_kappa0}
    # If all agree, the error is the root of a rounding error around 0, possibly negative.
    chance = total.sum(axis=0) @ total.sum(axis=1) / total.sum()**2
    if chance < 1 and not theirs.var_kappa * total.sum() * (1 - chance)**2 > 1e-12:
        del figures["error"]
    return figures


def interval(x, n, alpha):
    of = lambda method: proportion.proportion_confint(x, n, alpha=alpha, method=method)
    (wilson_low, wilson_high), (exact_low, exact_high) = of("wilson"), of("beta")
    return {
        "wilson_low": wilson_low, "wilson_high": wilson_high,
        # With none or all successes one bound is known without a quantile, where scipy returns nan.
        "exact_low": 0.0 if x == 0 else exact_low, "exact_high": 1.0 if x == n else exact_high,
    }


def newcombe(x1, n1, x0, n0, alpha):
    low, high = proportion.confint_proportions_2indep(x1, n1, x0, n0, method="newcomb", compare="diff", alpha=alpha)
    return {"low": low, "high": high}


def split(counts, weights):
    shares = np.array(weights) / np.sum(weights)
    test = stats.chisquare(counts, shares * np.sum(counts))
    return {"chi2": test.statistic, "p": test.pvalue}


TESTS = {
    it.__name__: it
    for it in (
        two_proportion_z, score, fisher, unconditional, welch, tost, paired_t, mann_whitney, kolmogorov_smirnov, mcnemar,
        delong, kappa, interval, newcombe, split,
    )
}


def is_close(got, wanted, relative, absolute):
    return math.isnan(got) and math.isnan(wanted) or abs(got - wanted) <= absolute + relative * abs(wanted)


def main():
    compared, by_test = 0, {}
    for case in json.load(sys.stdin):
        theirs = TESTS[case["test"]](**case["input"])
        theirs, (relative, absolute) = theirs if isinstance(theirs, tuple) else (theirs, CLOSE)
        for name, wanted in theirs.items():
            got, wanted = case["ours"][name], float(wanted)
            got = math.nan if got is None else float(got)
            compared += 1
            by_test[case["test"]] = by_test.get(case["test"], 0) + 1
            if not is_close(got, wanted, relative, absolute):
                print(f"{case['test']}.{name}: {got!r} is not {wanted!r} for {json.dumps(case['input'])[:400]}")
    print(", ".join(f"{name} {count}" for name, count in sorted(by_test.items())))
    print(f"{compared} comparisons")


main()
