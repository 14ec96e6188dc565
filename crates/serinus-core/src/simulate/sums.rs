//! Binary metrics of independent cases: the counts of a tick are drawn at once, which is equivalent to drawing single cases.

use std::collections::BTreeSet;

use rand::Rng;

use crate::domain::ids::Version;
use crate::domain::time::Span;
use crate::evidence::bet_center::Centre;
use crate::evidence::bounds::Sides;
use crate::evidence::design::{ContrastKey, Pairing, Part};
use crate::evidence::sums::Evidence;
use crate::inference::planning;
use crate::plan::metric::Metric;
use crate::plan::metric_kind::{Group, Response};
use crate::plan::rollout::MissingLabels;
use crate::simulate::flow::{Tick, binomial, counted, events};
use crate::simulate::nature::{Nature, Truth};
use serinus_stats::ipw_bet::Counts;
use serinus_stats::paired_bet::PairedCounts;

/// The sums that a tick adds: at once, and at the maturity of its cases.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub(crate) now: Evidence,
    pub(crate) at_maturity: Evidence,
}

/// The number of a version's cases with a label at maturity, by outcome.
#[derive(Clone, Copy, Debug)]
struct Labels {
    missing_event: f64,
    missing_rest: f64,
}

/// Draws a tick's sums for a plan with one candidate.
pub(crate) fn draw(tick: &Tick<'_>, nature: &Nature, rng: &mut impl Rng) -> Added {
    let mut added = Added::default();
    let Some(candidate) = tick.plan.candidates.first() else { return added };
    let stable = tick.stable();
    let share = tick.design.share(tick.plan, tick.stratum, candidate).fraction();
    let chosen = binomial(rng, tick.requests, share);
    let rest = tick.requests - chosen;
    let pairing = tick.design.pairing(tick.plan, tick.stratum, candidate, stable);
    let arms = match pairing {
        Pairing::Paired => {
            let copied = tick.routing.shadows.iter().find(|s| s.version == *candidate);
            let share = copied.map_or(0.0, |s| s.share.fraction());
            let pairs = chosen + binomial(rng, rest, share);
            Arms { pairs: Some(pairs), ours: pairs, theirs: tick.requests }
        }
        Pairing::Split { .. } | Pairing::Apart => Arms { pairs: None, ours: chosen, theirs: rest },
    };
    let parts = [
        (candidate, Part::Chosen, chosen),
        (candidate, Part::Copied, arms.ours - chosen),
        (stable, Part::Chosen, rest),
        (stable, Part::Copied, arms.theirs - rest),
    ];
    for (version, part, n) in parts {
        if n > 0 {
            tick.expose(&mut added.now, version, part, n);
        }
    }
    let mut missing: Option<[u64; 2]> = None;
    for (metric, truth) in tick.plan.metrics.iter().zip(&nature.truths) {
        let labels = labels(tick, nature, metric);
        if let Some(pairs) = arms.pairs {
            paired(tick, metric, *truth, labels, pairs, &mut added, rng);
            continue;
        }
        let lost = split(tick, metric, *truth, labels, arms, &mut added, rng);
        if metric.needs_label() {
            missing.get_or_insert(lost);
        }
    }
    let [lost_ours, lost_theirs] = missing.unwrap_or_default();
    for (version, part, n) in parts {
        let lost = match (part, version == candidate) {
            (Part::Copied, _) => 0,
            (Part::Chosen, true) => lost_ours,
            (Part::Chosen, false) => lost_theirs,
        };
        let key = (tick.stratum, version.clone(), part);
        let labelled = n - lost.min(n);
        let [quarter, half] = early(tick, nature).map(|p| binomial(rng, labelled, p));
        let tally = added.at_maturity.arms.entry(key.clone()).or_default();
        tally.mature += n;
        tally.missing += n - labelled;
        tally.labelled += labelled;
        tally.labelled_by = [quarter, half];
        if part == Part::Chosen {
            let answered = added.now.arms.get(&key).map_or(n, |k| k.answered);
            let units = added.now.units.entry(tick.stratum).or_default();
            let counts = units.cases.entry(version.clone()).or_default();
            (counts.assigned, counts.answered) = (n, answered);
            let units = added.at_maturity.units.entry(tick.stratum).or_default();
            let counts = units.cases.entry(version.clone()).or_default();
            (counts.mature, counts.labelled) = (n, labelled.min(answered));
            counts.labelled_by = [quarter, half, labelled];
        }
    }
    added
}

/// Returns how many cases can be drawn before the next center of their bets is frozen.
pub(crate) fn room(tick: &Tick<'_>, total: &mut Evidence, delay: usize) -> u64 {
    let at_once = tick.plan.metrics.iter().filter(|m| delay == 0 || !m.needs_label());
    let room = at_once.map(|metric| {
        let key = (tick.stratum, metric.name.clone());
        let centres = total.centres.entry(key).or_default();
        centres.freeze_if_due(1);
        centres.room(1)
    });
    room.min().unwrap_or(u64::MAX).max(1)
}

/// Adds the drawn sums to the total, and bets on the split cases.
pub(crate) fn absorb(tick: &Tick<'_>, total: &mut Evidence, added: &Evidence) {
    total.merge(added);
    let Some(candidate) = tick.plan.candidates.first() else { return };
    let stable = tick.stable();
    for stratum in added.scores.keys().map(|(stratum, ..)| *stratum).collect::<BTreeSet<_>>() {
        let pairing = tick.design.pairing(tick.plan, stratum, candidate, stable);
        let Pairing::Split { .. } = pairing else { continue };
        for metric in &tick.plan.metrics {
            let moments = |version| {
                let scores = added.scored(stratum, version, Part::Chosen, &metric.name);
                scores.map(|s| s.moments).unwrap_or_default()
            };
            let (ours, theirs) = (moments(candidate), moments(stable));
            if ours.n + theirs.n == 0 {
                continue;
            }
            let centres = total.centres.entry((stratum, metric.name.clone())).or_default();
            centres.freeze_if_due(1);
            let planned = planning::assumption(tick.design, metric, stratum.stage).centre;
            let centre = centres.frozen.last().map_or(planned, |p| p.centre);
            centres.seen.merge(&ours);
            centres.seen.merge(&theirs);
            let key =
                ContrastKey { stratum, candidate: candidate.clone(), metric: metric.name.clone() };
            let contrast = total.contrasts.entry(key).or_default();
            let counts = Counts {
                treated: ours.n,
                treated_events: events(&ours),
                control: theirs.n,
                control_events: events(&theirs),
            };
            contrast.split.entry(Centre::of(centre)).or_default().merge(&Sides::both(counts));
        }
    }
}

/// Returns the probabilities that a label present at maturity was present at a quarter and at half of it.
fn early(tick: &Tick<'_>, nature: &Nature) -> [f64; 2] {
    let there = |age: Span| 1.0 - nature.delay.missing(false, age);
    let full = there(tick.plan.maturity).max(1e-12);
    [4, 2].map(|part| (there(Span(tick.plan.maturity.0 / part)) / full).clamp(0.0, 1.0))
}

#[derive(Clone, Copy)]
struct Arms {
    pairs: Option<u64>,
    ours: u64,
    theirs: u64,
}

fn labels(tick: &Tick<'_>, nature: &Nature, metric: &Metric) -> Labels {
    if !metric.needs_label() {
        return Labels { missing_event: 0.0, missing_rest: 0.0 };
    }
    let age = tick.plan.maturity;
    Labels {
        missing_event: nature.delay.missing(true, age),
        missing_rest: nature.delay.missing(false, age),
    }
}

fn rates(tick: &Tick<'_>, metric: &Metric, truth: Truth) -> (f64, f64) {
    if metric.kind.group() == Group::Agreement {
        // One version never differs from itself.
        return ((truth.base + truth.effect).clamp(0.0, 1.0), 0.0);
    }
    let theirs = (truth.base * tick.factor).clamp(0.0, 1.0);
    ((theirs + truth.effect).clamp(0.0, 1.0), theirs)
}

/// Draws two independent arms; returns the number of missing labels in each.
fn split(
    tick: &Tick<'_>,
    metric: &Metric,
    truth: Truth,
    labels: Labels,
    arms: Arms,
    added: &mut Added,
    rng: &mut impl Rng,
) -> [u64; 2] {
    let (ours, theirs) = rates(tick, metric, truth);
    let mut lost = [0; 2];
    let Some(candidate) = tick.plan.candidates.first() else { return lost };
    let sides = [(candidate, arms.ours, ours), (tick.stable(), arms.theirs, theirs)];
    for (lost, (version, n, rate)) in lost.iter_mut().zip(sides) {
        let events = binomial(rng, n, rate);
        let late = binomial(rng, events, labels.missing_event);
        *lost = late + binomial(rng, n - events, labels.missing_rest);
        let n = match tick.plan.missing {
            MissingLabels::Exclude => n - *lost,
            MissingLabels::Negative => n,
        };
        put(tick, metric, version, Part::Chosen, n, events - late, added);
    }
    lost
}

/// Draws the answers of both versions to the same cases.
fn paired(
    tick: &Tick<'_>,
    metric: &Metric,
    truth: Truth,
    labels: Labels,
    pairs: u64,
    added: &mut Added,
    rng: &mut impl Rng,
) {
    let Some(candidate) = tick.plan.candidates.first() else { return };
    let (ours, theirs) = rates(tick, metric, truth);
    let missing = theirs * labels.missing_event + (1.0 - theirs) * labels.missing_rest;
    let pairs = pairs - binomial(rng, pairs, missing);
    let effect = ours - theirs;
    let assumed = truth.apart.unwrap_or_else(|| {
        planning::assumption(tick.design, metric, tick.stratum.stage).discordance
    });
    // The share of discordant pairs is the planned one, within the limits that the two rates set.
    let widest = (2.0 * theirs + effect).min(2.0 * (1.0 - theirs) - effect).max(effect.abs());
    let discordance = assumed.clamp(effect.abs(), widest);
    let (plus_rate, minus_rate) = (0.5 * (discordance + effect), 0.5 * (discordance - effect));
    let plus = binomial(rng, pairs, plus_rate);
    let minus = binomial(rng, pairs - plus, minus_rate / (1.0 - plus_rate).max(1e-12));
    let alike = pairs - plus - minus;
    let both_rate = (theirs - minus_rate).max(0.0) / (1.0 - discordance).max(1e-12);
    let both = binomial(rng, alike, both_rate);
    put(tick, metric, candidate, Part::Copied, pairs, plus + both, added);
    put(tick, metric, tick.stable(), Part::Chosen, pairs, minus + both, added);
    let key = ContrastKey {
        stratum: tick.stratum,
        candidate: candidate.clone(),
        metric: metric.name.clone(),
    };
    let contrast = side(metric, added).contrasts.entry(key).or_default();
    contrast.pairs.merge(&PairedCounts { plus, minus, zero: alike });
    contrast.difference.merge(&counted(pairs, plus, minus));
}

fn put(
    tick: &Tick<'_>,
    metric: &Metric,
    version: &Version,
    part: Part,
    n: u64,
    events: u64,
    added: &mut Added,
) {
    if n == 0 {
        return;
    }
    if let Group::Response(response) = metric.kind.group() {
        let key = (tick.stratum, version.clone(), part);
        if let Some(tally) = added.now.arms.get_mut(&key) {
            let failed = events.min(tally.answered);
            tally.answered -= failed;
            match response {
                Response::Error => tally.errors += failed,
                Response::Timeout => tally.timeouts += failed,
            }
        }
    }
    let key = (tick.stratum, version.clone(), part, metric.name.clone());
    side(metric, added).scores.entry(key).or_default().moments.merge(&counted(n, events, 0));
}

fn side<'a>(metric: &Metric, added: &'a mut Added) -> &'a mut Evidence {
    if metric.needs_label() { &mut added.at_maturity } else { &mut added.now }
}
