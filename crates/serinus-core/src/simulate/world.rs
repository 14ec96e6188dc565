//! One world: a rollout is applied, traffic flows tick by tick, and the judge decides.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serde::Deserialize;
use serde_json::Value;

use crate::domain::ids::{Revision, RolloutName};
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::accumulator::EvidenceAccumulator;
use crate::engine::judge::command::{Command, Parsed, Verb, Written};
use crate::engine::judge::event::Phase;
use crate::engine::judge::io::{Event, Settings};
use crate::engine::judge::judge::Judge;
use crate::engine::partial::{Inputs, Partial};
use crate::evidence::sums::Evidence;
use crate::inference::input::Detail;
use crate::join::label_join::Clocks;
use crate::plan::rollout::{ModelPlan, RolloutPlan};
use crate::simulate::cases::{self, Population, Waiting};
use crate::simulate::flow::Tick;
use crate::simulate::nature::Nature;
use crate::simulate::sums;

/// The start time of every world.
const BEGIN: Timestamp = Timestamp(1_700_006_400_000);

/// The settings that all worlds of a survey share.
#[derive(Clone, Debug)]
pub struct Course {
    /// The model.
    pub model: ModelPlan,
    /// The rollout; there is one interim analysis per tick.
    pub plan: Arc<RolloutPlan>,
    /// The number of requests in a tick.
    pub batch: u64,
    /// The length of a world in ticks.
    pub ticks: u64,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The candidate was promoted, or proved if promotion needs a person.
    Promoted,
    /// It was aborted for harm.
    Aborted,
    /// The time of the rollout was over.
    Inconclusive,
    /// The traffic of the world was over first.
    Undecided,
}

/// The outcome of one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The number of requests until then.
    pub requests: u64,
    /// The time until then.
    pub after: Span,
    /// The number of requests that candidates served.
    pub exposed: u64,
}

/// Runs one world to its end. The same seed gives the same world on every machine.
pub(crate) fn run(course: &Course, nature: &Nature, seed: u64) -> Outcome {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut world = World::begin(course, seed);
    let people = Population::draw(&course.plan, nature, &mut rng);
    let mut flow = if nature.is_countable(&course.plan) {
        Flow::Sums(Box::default())
    } else {
        Flow::Cases(Box::new(Cases {
            people,
            book: None,
            revision: None,
            waiting: VecDeque::new(),
        }))
    };
    for tick in 1..=course.ticks {
        if let Some(outcome) = world.step(tick, nature, &mut flow, &mut rng) {
            return outcome;
        }
    }
    world.outcome(Ending::Undecided, course.ticks)
}

struct World<'a> {
    course: &'a Course,
    judge: Judge,
    exposed: u64,
}

/// How traffic becomes sums.
enum Flow {
    Sums(Box<Sums>),
    Cases(Box<Cases>),
}

#[derive(Default)]
struct Sums {
    total: Evidence,
    waiting: VecDeque<Evidence>,
}

struct Cases {
    people: Population,
    book: Option<EvidenceAccumulator>,
    revision: Option<Revision>,
    waiting: VecDeque<Vec<Waiting>>,
}

impl<'a> World<'a> {
    fn begin(course: &'a Course, seed: u64) -> Self {
        let judge = Judge::new(Settings {
            model: course.model.name.clone(),
            labels_topic: String::new(),
            detail: Detail::Verdict,
        });
        let mut world = Self { course, judge, exposed: 0 };
        let model = Written { plan: course.model.clone(), document: Value::Null };
        world.apply(seed, Parsed::Model(Box::new(model)), None);
        let plan = RolloutPlan::clone(&course.plan);
        let name = plan.name.clone();
        let rollout = Written { plan, document: Value::Null };
        world.apply(seed, Parsed::Rollout(Box::new(rollout)), Some(name));
        world
    }

    fn apply(&mut self, seed: u64, spec: Parsed, rollout: Option<RolloutName>) {
        let command = Command {
            // The salt of the assignment is derived from it.
            id: format!("{seed:x}-{}", rollout.is_some()),
            model: self.course.model.name.clone(),
            rollout,
            verb: Verb::Apply,
            by: "simulate".to_owned(),
            reason: String::new(),
            expect_revision: None,
            spec: Some(spec),
        };
        let mut out = Vec::new();
        self.judge.handle(BEGIN, Event::Command(Box::new(command)), &mut out);
    }

    /// Runs and judges one tick of traffic; returns how the rollout ended, if it did.
    fn step(
        &mut self,
        number: u64,
        nature: &Nature,
        flow: &mut Flow,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Option<Outcome> {
        let plan = &self.course.plan;
        let length = plan.tick.0;
        let index = i64::try_from(number).unwrap_or(i64::MAX / length.max(1));
        let to = BEGIN + Span(index * length);
        let from = BEGIN + Span((index - 1) * length);
        let whole = Span(i64::try_from(self.course.ticks).unwrap_or(i64::MAX / length) * length);
        let state = self.judge.state()?;
        let routing = state.position.routing.clone();
        let design = state.rollout.as_ref()?.design.clone();
        let tick = Tick {
            plan,
            design: &design,
            routing: &routing,
            stratum: design.stratum(routing.stage, routing.revision),
            from,
            to,
            requests: self.course.batch,
            factor: nature.drift.factor(to - BEGIN, whole),
        };
        let delay = (plan.maturity.0 + length - 1) / length.max(1);
        let delay = usize::try_from(delay).unwrap_or(0);
        let sums = flow.step(&tick, plan, nature, delay, rng);
        self.exposed += exposed(&tick);
        let partial = Partial {
            model: plan.model.clone(),
            rollout: plan.name.clone(),
            partition: 0,
            tick: to,
            clocks: Clocks { predictions: to, labels: to, are_labels_read: true },
            is_idle: false,
            turn: number,
            inputs: Inputs::default(),
            lag: 0,
            unplanned: 0,
            revision: Revision(0),
            sums,
        };
        let mut out = Vec::new();
        self.judge.handle(to, Event::Partial(Box::new(partial)), &mut out);
        let ending = match self.judge.state()?.position.phase {
            Phase::Idle | Phase::Pending | Phase::Progressing => return None,
            Phase::Promoted | Phase::Concluded => Ending::Promoted,
            Phase::Aborted => Ending::Aborted,
            Phase::Paused | Phase::Inconclusive => Ending::Inconclusive,
        };
        Some(self.outcome(ending, number))
    }

    fn outcome(&self, ending: Ending, ticks: u64) -> Outcome {
        let length = self.course.plan.tick.0;
        Outcome {
            ending,
            requests: ticks * self.course.batch,
            after: Span(i64::try_from(ticks).unwrap_or(i64::MAX / length.max(1)) * length),
            exposed: self.exposed,
        }
    }
}

impl Flow {
    /// Draws a tick and returns the sums of all ticks so far. Labels are read `delay` ticks later.
    fn step(
        &mut self,
        tick: &Tick<'_>,
        plan: &Arc<RolloutPlan>,
        nature: &Nature,
        delay: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Evidence {
        match self {
            Self::Sums(sums) => {
                let mut later = Evidence::default();
                let mut left = tick.requests;
                while left > 0 {
                    // Centers can also be frozen within a tick.
                    let part = Tick {
                        requests: left.min(sums::room(tick, &mut sums.total, delay)),
                        ..*tick
                    };
                    left -= part.requests;
                    let added = sums::draw(&part, nature, rng);
                    sums::absorb(tick, &mut sums.total, &added.now);
                    if delay == 0 {
                        sums::absorb(tick, &mut sums.total, &added.at_maturity);
                    } else {
                        later.merge(&added.at_maturity);
                    }
                }
                if delay > 0 {
                    sums.waiting.push_back(later);
                }
                if sums.waiting.len() > delay
                    && let Some(mature) = sums.waiting.pop_front()
                {
                    sums::absorb(tick, &mut sums.total, &mature);
                }
                sums.total.clone()
            }
            Self::Cases(it) => {
                let book = it.book.get_or_insert_with(|| {
                    EvidenceAccumulator::new(
                        Arc::clone(plan),
                        tick.design.clone(),
                        tick.stable().clone(),
                    )
                });
                if it.revision != Some(tick.routing.revision) {
                    book.redesign(tick.design.clone());
                    it.revision = Some(tick.routing.revision);
                }
                let waiting = cases::draw(tick, nature, &it.people, book, rng);
                it.waiting.push_back(waiting);
                if it.waiting.len() > delay
                    && let Some(mature) = it.waiting.pop_front()
                {
                    cases::mature(plan, mature, book);
                }
                book.sums().clone()
            }
        }
    }
}

/// Returns the number of a tick's requests that candidates served.
fn exposed(tick: &Tick<'_>) -> u64 {
    let share: f64 = tick
        .plan
        .candidates
        .iter()
        .map(|c| tick.design.share(tick.plan, tick.stratum, c).fraction())
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count is a count"
    )]
    let exposed = (share * tick.requests as f64).round() as u64;
    exposed
}
