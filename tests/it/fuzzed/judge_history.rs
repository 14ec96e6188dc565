//! Histories of a judge: steps become the records of its topics, and a judge processes them with or without crashes.

use std::collections::BTreeMap;

use serde_json::Value;

use serinus::wire::partial::PartialRecord;
use serinus::wire::state::StateRecord;
use serinus_core::domain::ids::{RolloutName, Version};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::judge::command::{Command, Parsed, Verb, Written};
use serinus_core::engine::judge::io::{Effect, Event, Settings};
use serinus_core::engine::judge::judge::Judge;
use serinus_core::engine::partial::{Inputs, Partial};
use serinus_core::evidence::bet_center::Centre;
use serinus_core::evidence::bounds::Sides;
use serinus_core::evidence::design::{ContrastKey, Part, Stratum};
use serinus_core::evidence::sums::Evidence;
use serinus_core::inference::input::Detail;
use serinus_core::join::label_join::Clocks;
use serinus_core::plan::metric::Metric;
use serinus_core::plan::rollout::{ModelPlan, RolloutPlan};
use serinus_stats::ipw_bet::Counts;

use crate::scenarios::plans::{self, MIDNIGHT};
use crate::statistics::world::changed_by_the_judge;

pub(crate) const MODEL: &str = "m";

/// Operator commands other than apply.
pub(crate) const STEERING: [Verb; 9] = [
    Verb::Pause,
    Verb::Resume,
    Verb::Promote,
    Verb::PromoteFull,
    Verb::Abort,
    Verb::Retry,
    Verb::Rollback,
    Verb::Extend,
    Verb::Approve,
];

/// One step, with its delay in seconds after the previous one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Apply {
        wait_s: i64,
        what: usize,
    },
    Steer {
        wait_s: i64,
        verb: Verb,
        of: usize,
        expects: u8,
    },
    Sums {
        wait_s: i64,
        partition: i32,
        is_idle: bool,
        cases: u64,
        good: [u8; 3],
        fails: u8,
    },
    /// The second newest sums of a partition arrive again.
    Old {
        wait_s: i64,
        partition: i32,
    },
    Silence {
        wait_s: i64,
    },
}

/// An input of a judge, as its journal records it.
#[derive(Clone, Debug)]
pub(crate) enum Received {
    Event(Event),
    Silence,
}

/// A judge's history: its inputs with their times.
pub(crate) type History = Vec<(Timestamp, Received)>;

/// The documents to apply: two specs of a model, and rollouts of every strategy, some of which replace, queue or are refused.
pub(crate) fn documents() -> Vec<Parsed> {
    let model = |stable: &str, timeout_ms: i64| {
        let Written { plan, .. } = plans::model(MODEL, stable);
        let plan = ModelPlan { timeout: Span(timeout_ms), ..plan };
        let document = Value::from(format!("model {stable} {timeout_ms}"));
        Parsed::Model(Box::new(Written { plan, document }))
    };
    let rollout = |text: &str| {
        let mut lines = text.split("; ");
        let head: Vec<&str> = lines.next().unwrap_or("").split(' ').collect();
        let [name, strategy, candidates @ ..] = &head[..] else { panic!("a rollout's head") };
        let mut plan = plans::rollout(MODEL, name, strategy, candidates);
        for line in lines.chain(["metric accuracy accuracy goal margin=10%", "labels maturity=30s"])
        {
            plans::line(&mut plan, &line.split(' ').collect::<Vec<_>>());
        }
        Parsed::Rollout(Box::new(plans::written(plan, text)))
    };
    vec![
        model("v1", 500),
        rollout(
            "c canary v2; stage share=20% hold=1m; stage share=50% hold=1m; metric errors response_error guardrail margin=10%; \
             decide by=1h min_labelled=50",
        ),
        rollout(
            "d canary v3; stage share=10% approve; stage share=50%; decide auto inconclusive=pause by=20m; conflict queue",
        ),
        rollout("a ab v2 v3; stage share=v2:30%,v3:20% hold=2m; decide auto; conflict replace"),
        rollout(
            "s shadow v4; stage shadow=100% exposures=500; conflict queue; decide no_data=abort",
        ),
        // Another spec under a name in use.
        rollout("c canary v3; stage share=30%"),
        model("v1", 700),
        model("v2", 500),
        Parsed::Invalid("this is no spec".to_owned()),
    ]
}

/// Parses a document as the shell does when it reads a state.
fn parse(document: &Value) -> Parsed {
    let read = |known: Parsed| match known {
        Parsed::Model(it) => (it.document == *document).then_some(Parsed::Model(it)),
        Parsed::Rollout(it) => {
            changed_by_the_judge(&it, document).map(|it| Parsed::Rollout(it.into()))
        }
        Parsed::Invalid(_) => None,
    };
    documents().into_iter().find_map(read).expect("a state holds only applied documents")
}

fn settings() -> Settings {
    Settings { model: MODEL.into(), labels_topic: "labels".to_owned(), detail: Detail::Full }
}

pub(crate) fn new_judge() -> Judge {
    let mut judge = Judge::new(settings());
    judge.open(MIDNIGHT);
    judge
}

/// Turns steps into records: sums of lanes that follow the judge's decisions so far.
pub(crate) fn history(steps: &[Step]) -> History {
    let mut judge = new_judge();
    let mut lanes: BTreeMap<(RolloutName, i32), Vec<Partial>> = BTreeMap::new();
    let mut now = MIDNIGHT;
    let mut history = History::new();
    for (number, step) in steps.iter().enumerate() {
        let (wait_s, received) = match *step {
            Step::Apply { wait_s, what } => (wait_s, Some(apply(what, number))),
            Step::Steer { wait_s, verb, of, expects } => {
                (wait_s, Some(steer(verb, of, expects, number, &judge)))
            }
            Step::Silence { wait_s } => (wait_s, Some(Received::Silence)),
            Step::Old { wait_s, partition } => {
                let of_lane = lanes.iter().rev().find(|((_, l), _)| *l == partition);
                let old = of_lane.and_then(|(_, o)| o.iter().rev().nth(1).cloned());
                (wait_s, old.map(|o| Received::Event(Event::Partial(Box::new(o)))))
            }
            Step::Sums { wait_s, partition, is_idle, cases, good, fails } => {
                let at = now + Span::seconds(wait_s);
                let sums = grown(&judge, &lanes, partition, cases, (good, fails), at);
                let sums = sums.map(|s| Partial { is_idle, ..s });
                if let Some(it) = &sums {
                    lanes.entry((it.rollout.clone(), partition)).or_default().push(it.clone());
                }
                (wait_s, sums.map(|s| Received::Event(Event::Partial(Box::new(s)))))
            }
        };
        now = now + Span::seconds(wait_s);
        let Some(received) = received else { continue };
        receive(&mut judge, now, &received, &mut Vec::new());
        history.push((now, received));
    }
    history
}

pub(crate) fn receive(
    judge: &mut Judge,
    now: Timestamp,
    received: &Received,
    out: &mut Vec<Effect>,
) {
    match received {
        Received::Event(event) => judge.handle(now, event.clone(), out),
        Received::Silence => judge.tick(now, out),
    }
}

/// Returns the judge after a restart: restored from the newest state record and the sums that were judged.
pub(crate) fn restarted(
    history: &[(Timestamp, Received)],
    state: Option<&[u8]>,
    before: &Judge,
) -> Judge {
    let Some(state) = state else { return Judge::new(settings()) };
    let state = StateRecord::read(state).expect("we wrote it");
    let mut judge = Judge::restore(settings(), state.model_state(parse).expect("a whole state"));
    // Only the newest sums of each lane, as the committed offset names them.
    let mut newest: BTreeMap<(&RolloutName, i32), &Partial> = BTreeMap::new();
    for (_, received) in history {
        if let Received::Event(Event::Partial(it)) = received {
            let known = newest.entry((&it.rollout, it.partition)).or_insert(it);
            if (it.tick, it.turn) >= (known.tick, known.turn) {
                *known = it;
            }
        }
    }
    for partial in newest.into_values().filter(|n| before.uses_partials_of(&n.rollout)) {
        judge.recall(partial.clone());
    }
    judge.has_judged(before.newest_tick());
    judge
}

fn apply(what: usize, number: usize) -> Received {
    let documents = documents();
    let spec = documents[what % documents.len()].clone();
    let rollout = match &spec {
        Parsed::Rollout(it) => Some(it.plan.name.clone()),
        Parsed::Model(_) | Parsed::Invalid(_) => None,
    };
    command(Verb::Apply, rollout, number, Some(spec))
}

fn steer(verb: Verb, of: usize, expects: u8, number: usize, judge: &Judge) -> Received {
    let names = ["c", "d", "a", "s", "unknown"];
    let mut received = command(verb, names.get(of).map(|o| (*o).into()), number, None);
    if let Received::Event(Event::Command(it)) = &mut received {
        "to see".clone_into(&mut it.reason);
        it.extend_by = Some(Span::seconds(3600));
    }
    if let (Received::Event(Event::Command(it)), 0) = (&mut received, expects) {
        let revision = judge.state().map_or(0, |s| s.position.routing.revision.0);
        // One that was never there, or the one that is.
        it.expect_revision =
            Some(serinus_core::domain::ids::Revision(revision + u64::from(of == 4)));
    }
    received
}

fn command(
    verb: Verb,
    rollout: Option<RolloutName>,
    number: usize,
    spec: Option<Parsed>,
) -> Received {
    Received::Event(Event::Command(Box::new(Command {
        id: format!("command-{number}"),
        model: MODEL.into(),
        rollout,
        verb,
        by: "ann".to_owned(),
        reason: String::new(),
        expect_revision: None,
        spec,
        to: None,
        extend_by: None,
    })))
}

/// The sums of a lane after more cases of the running rollout, read back from their record.
fn grown(
    judge: &Judge,
    lanes: &BTreeMap<(RolloutName, i32), Vec<Partial>>,
    partition: i32,
    cases: u64,
    (good, fails): ([u8; 3], u8),
    at: Timestamp,
) -> Option<Partial> {
    let state = judge.state()?;
    let rollout = state.rollout.as_ref()?;
    let plan = rollout.plan();
    let routing = &state.position.routing;
    let before = lanes.get(&(plan.name.clone(), partition)).and_then(|n| n.last());
    let stratum = rollout.design.stratum(routing.stage, routing.revision);
    let mut sums = before.map_or_else(Evidence::default, |d| d.sums.clone());
    let versions = std::iter::once(&routing.stable).chain(&plan.candidates);
    for (version, good) in versions.zip(good) {
        let share = rollout.design.share(plan, stratum, version).fraction();
        let is_copied = share == 0.0 && routing.shadows.iter().any(|s| s.version == *version);
        let part = if is_copied { Part::Copied } else { Part::Chosen };
        let n = if is_copied { cases } else { whole(cases as f64 * share) };
        if n > 0 {
            add(&mut sums, plan, (stratum, version, part), n, (good, fails), at);
        }
    }
    let partial = Partial {
        model: MODEL.into(),
        rollout: plan.name.clone(),
        partition,
        tick: at.floor_to(plan.tick),
        clocks: Clocks { predictions: at, labels: at, are_labels_read: true },
        is_idle: false,
        turn: before.map_or(1, |b| b.turn + 1),
        inputs: Inputs { predictions: i64::try_from(cases).unwrap_or(0), labels: 0 },
        lag: 0,
        unplanned: 0,
        revision: routing.revision,
        sums,
    };
    let bytes = PartialRecord::from(&partial).write();
    Some(PartialRecord::read(&bytes).and_then(|w| w.partial()).expect("we wrote it"))
}

/// Adds mature, labelled cases of which the given number of sixteenths is right.
fn add(
    sums: &mut Evidence,
    plan: &RolloutPlan,
    (stratum, version, part): (Stratum, &Version, Part),
    n: u64,
    (good, fails): (u8, u8),
    at: Timestamp,
) {
    let tally = sums.arms.entry((stratum, version.clone(), part)).or_default();
    let errors = n * u64::from(fails) / 32;
    tally.exposures += n;
    tally.answered += n - errors;
    tally.errors += errors;
    tally.labelled += n;
    tally.mature += n;
    tally.labelled_by = tally.labelled_by.map(|l| l + n);
    tally.first_at = tally.first_at.min(at);
    tally.last_at = tally.last_at.max(at);
    let right = n * u64::from(good) / 16;
    for metric in &plan.metrics {
        let (ones, zeros) = match metric.name.as_str() {
            "errors" => (errors, n - errors),
            _ => (right, n - right),
        };
        let key = (stratum, version.clone(), part, metric.name.clone());
        let scores = sums.scores.entry(key).or_default();
        (0..ones).for_each(|_| scores.moments.add(1.0));
        (0..zeros).for_each(|_| scores.moments.add(0.0));
        if part == Part::Chosen {
            bet(sums, plan, (stratum, version), metric, (ones, n));
        }
    }
}

/// Adds cases of a version, with events among them, to its comparisons.
fn bet(
    sums: &mut Evidence,
    plan: &RolloutPlan,
    (stratum, version): (Stratum, &Version),
    metric: &Metric,
    (events, n): (u64, u64),
) {
    let is_candidate = plan.candidates.contains(version);
    for candidate in plan.candidates.iter().filter(|c| !is_candidate || *c == version) {
        let counts = if is_candidate {
            Counts { treated: n, treated_events: events, ..Counts::default() }
        } else {
            Counts { control: n, control_events: events, ..Counts::default() }
        };
        let key =
            ContrastKey { stratum, candidate: candidate.clone(), metric: metric.name.clone() };
        let split = &mut sums.contrasts.entry(key).or_default().split;
        split.entry(Centre::of(metric.base)).or_default().merge(&Sides::both(counts));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most a few thousand"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
