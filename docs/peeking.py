"""What other tests do on the scenarios of `serinus simulate --acceptance`, read after every batch.

Needs Python 3.9 and numpy, and takes half a minute. Nothing of Serinus is in it: the methods are those of the sources that
docs/statistics.md names.
"""

import numpy as np

ALPHA, WORLDS, SEED = 0.05, 5_000, 1
NEVER = 10**9

# Share of the candidate, stable rate, candidate's rate, requests, batch, effect planned for.
SCENARIOS = {
    "T1": (0.50, 0.100, 0.100, 20_000, 100, 0.020),
    "T2": (0.50, 0.100, 0.120, 20_000, 100, 0.020),
    "T2b": (0.50, 0.100, 0.080, 20_000, 100, 0.020),
    "T3": (0.50, 0.100, 0.110, 20_000, 100, 0.020),
    "T4": (0.50, 0.100, 0.200, 20_000, 100, 0.020),
    "T5": (0.05, 0.001, 0.001, 500_000, 2_000, 0.001),
    "T6": (0.05, 0.001, 0.002, 500_000, 2_000, 0.001),
    "T7": (0.05, 0.001, 0.003, 500_000, 2_000, 0.001),
    "T8": (0.05, 0.001, 0.010, 500_000, 2_000, 0.001),
    "T9": (0.10, 0.020, 0.020, 100_000, 500, 0.006),
    "T10": (0.10, 0.020, 0.026, 100_000, 500, 0.006),
    "T11": (0.50, 0.300, 0.300, 2_000_000, 10_000, 0.003),
    "T12": (0.50, 0.300, 0.303, 2_000_000, 10_000, 0.003),
}


def z_test(p1, p0, n1, n0, mde):
    """The z-test of two proportions at 1.96, which is meant for one look."""
    pool = (p1 * n1 + p0 * n0) / (n1 + n0)
    return np.abs(p1 - p0) / np.sqrt(pool * (1 - pool) * (1 / n1 + 1 / n0)) > 1.959964


def asymptotic(p1, p0, n1, n0, mde):
    """The asymptotic confidence sequence of the difference; no decision while an arm has no variance."""
    v1, v0 = p1 * (1 - p1), p0 * (1 - p0)
    return (np.abs(p1 - p0) > half_width(v1 / n1 + v0 / n0, n1 + n0)) & (v1 > 0) & (v0 > 0)


def relative(p1, p0, n1, n0, mde):
    """The same of the relative difference, by the delta method."""
    v1, v0 = p1 * (1 - p1), p0 * (1 - p0)
    spread = v1 / (n1 * p0**2) + v0 * p1**2 / (n0 * p0**4)
    return (np.abs(p1 / p0 - 1) > half_width(spread, n1 + n0)) & (v1 > 0) & (v0 > 0)


def half_width(variance, n, alpha=ALPHA, sides=2, tuned_for=5_000):
    tail = alpha if sides == 2 else 2 * alpha
    bits = -2 * np.log(tail)
    rho2 = (bits + np.log(bits + 1)) / tuned_for
    spread = n * rho2 + 1
    bound = np.log(np.sqrt(spread) / alpha) if sides == 2 else np.log1p(np.sqrt(spread) / tail)
    return np.sqrt(variance * 2 * spread / (n * rho2) * bound)


def msprt(p1, p0, n1, n0, mde):
    """The mixture sequential probability ratio test of normal differences, its scale the effect planned for."""
    n = n1 + n0
    v = n * (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)
    log_e = 0.5 * np.log(v / (v + n * mde**2)) + (n * mde * (p1 - p0)) ** 2 / (2 * v * (v + n * mde**2))
    return (log_e > -np.log(ALPHA)) & (v > 0)


def scheduled(p1, p0, n1, n0, mde, looks=20, paths=1_000_000):
    """A group-sequential z-test: twenty looks, alpha spent as the square of the share of a known whole size."""
    rng = np.random.default_rng(0)
    path, bounds, spent = np.zeros(paths), [], 0.0
    for look in range(1, looks + 1):
        path = path + rng.standard_normal(path.size)
        z = np.abs(path) / np.sqrt(look)
        crossing = round((ALPHA * (look / looks) ** 2 - spent) * paths)
        bounds.append(np.partition(z, z.size - crossing)[z.size - crossing])
        path, spent = path[z < bounds[-1]], ALPHA * (look / looks) ** 2
    every = p1.shape[1] // looks
    at = slice(every - 1, looks * every, every)
    rejected = np.zeros(p1.shape, bool)
    error = np.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)[:, at]
    rejected[:, at] = np.abs(p1 - p0)[:, at] / error > np.array(bounds)
    return rejected


def arms(rng, share, stable, candidate, batch, looks, worlds=WORLDS):
    """Draws both arms' rates and sizes after each batch."""
    n1 = rng.binomial(batch, share, (worlds, looks))
    n0 = batch - n1
    drawn = rng.binomial(n1, candidate), rng.binomial(n0, stable), n1, n0
    e1, e0, n1, n0 = (np.cumsum(it, axis=1).astype(float) for it in drawn)
    return e1 / n1, e0 / n0, n1, n0


def peeking(rng):
    tests = (z_test, asymptotic, relative, msprt, scheduled)
    print("share of worlds rejected, median requests")
    print(f"{'':5}", *(f"{it.__name__:>17}" for it in tests))
    for name, (share, stable, candidate, requests, batch, mde) in SCENARIOS.items():
        seen = arms(rng, share, stable, candidate, batch, requests // batch)
        row = []
        for test in tests:
            rejected = test(*seen, mde)
            ever = rejected.any(axis=1)
            first = np.where(ever, rejected.argmax(axis=1) + 1, NEVER)
            middle = int(np.sort(first)[(WORLDS - 1) // 2])
            row.append(f"{ever.mean():.3f} {middle * batch if middle < NEVER else '-':>9}")
        print(f"{name:5}", *(f"{it:>17}" for it in row))


def canary_at_the_limit(rng):
    """Twice the errors is just too many: how often is it promoted, 5 % of the traffic, 0.1 % against 0.2 %?"""
    p1, p0, n1, n0 = arms(rng, 0.05, 0.001, 0.002, 2_000, 250)
    v1, v0 = p1 * (1 - p1), p0 * (1 - p0)
    upper = p1 - p0 + half_width(v1 / n1 + v0 / n0, n1 + n0, sides=1)
    return ((upper < 0.001) & (v1 > 0) & (v0 > 0)).any(axis=1).mean()


def pooled_ramp(rng):
    """A/A over stages of 1, 5, 25 and 50 % while errors fall from 10 % to 5 %: read at every batch, and once at the end."""
    share = np.repeat([0.01, 0.05, 0.25, 0.50], 100)
    rate = np.linspace(0.10, 0.05, share.size)
    seen = arms(rng, share, rate, rate, 500, share.size)
    return asymptotic(*seen, 0).any(axis=1).mean(), z_test(*seen, 0)[:, -1].mean()


def labels_so_far(rng, worlds=1_000):
    """A/A over 5, 10, 25 and 50 % of a week each, 5 % positive; labels take 7 days where positive, else half a day."""
    waiting, known = np.zeros((2, 2, worlds), int), np.zeros((2, 2, worlds), int)
    come = 1 - np.exp(-0.25 / np.array([0.5, 7.0]))
    rejected = np.zeros(worlds, bool)
    for share in np.repeat([0.05, 0.10, 0.25, 0.50], 28):
        n1 = rng.binomial(400, share, worlds)
        for arm, n in enumerate((400 - n1, n1)):
            positive = rng.binomial(n, 0.05)
            waiting[arm] += [n - positive, positive]
            new = rng.binomial(waiting[arm], come[:, None])
            waiting[arm] -= new
            known[arm] += new
        n0, n1 = known.sum(axis=1).astype(float)
        p0, p1 = known[0, 1] / n0, known[1, 1] / n1
        rejected |= asymptotic(p1, p0, n1, n0, 0)
    return rejected.mean(), (p1 - p0).mean()


def sticky(rng, users, worlds=1_000, requests=20_000, batch=200):
    """A/A by users whose requests resemble each other by 1/6, every request taken for independent."""
    rejected = 0
    for _ in range(worlds):
        level, arm = rng.beta(0.1 * 5, 0.9 * 5, users), rng.random(users) < 0.5
        user = rng.integers(users, size=requests)
        event, ours = rng.random(requests) < level[user], arm[user]
        sums = (event & ours, event & ~ours, ours, ~ours)
        e1, e0, n1, n0 = (np.cumsum(it)[batch - 1 :: batch].astype(float) for it in sums)
        rejected += asymptotic(e1 / n1, e0 / n0, n1, n0, 0).any()
    return rejected / worlds


def split_read_often(rng, looks=2_000):
    """A right split, tested at 0.001 by chi-square after every hundred units."""
    n = 100.0 * np.arange(1, looks + 1)
    n1 = np.cumsum(rng.binomial(100, 0.5, (WORLDS, looks)), axis=1)
    return ((2 * n1 - n) ** 2 / n > 10.8276).any(axis=1).mean()


def main():
    np.seterr(all="ignore")
    rng = np.random.default_rng(SEED)
    peeking(rng)
    print(f"canary at the limit, promoted: {canary_at_the_limit(rng):.3f}")
    print("ramp with drift, pooled, asymptotic: {:.3f}, z once at the end: {:.3f}".format(*pooled_ramp(rng)))
    print("labels so far, pooled, asymptotic: {:.3f}, bias {:+.4f}".format(*labels_so_far(rng)))
    for users in (2_000, 500):
        print(f"{users} users, by request, asymptotic: {sticky(rng, users):.3f}")
    print(f"split, chi-square at 0.001 read 2,000 times: {split_read_often(rng):.4f}")


if __name__ == "__main__":
    main()
