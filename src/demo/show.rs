//! The demonstration: an application and its workers in one process, three acts, and what the topics show of them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::apply::wish;
use crate::cli::ask::{AskArgs, commands};
use crate::cli::demo::DemoOptions;
use crate::cli::error::{CliError, Exit};
use crate::cli::run::end;
use crate::cli::run::stop_on_signals;
use crate::cli::say;
use crate::cli::specs;
use crate::demo::acts::{ACTS, Act, builds, model};
use crate::demo::flights::september_2013;
use crate::demo::player::{Player, Progress};
use crate::demo::scene::{Scene, Sources};
use crate::demo::screen::{Screen, Style, moment};
use crate::kafka::client::admin::create_missing;
use crate::kafka::client::error::ReadError;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::mock_broker::MockBroker;
use crate::kafka::client::plain_producer::PlainProducer;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::{Start, TopicFollower, TopicReader};
use crate::kafka::instance::run;
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::model_worker::answering::Requests;
use crate::kafka::process::clock;
use crate::kafka::process::metrics::MetricsRegistry;
use crate::kafka::process::shutdown::Shutdown;
use crate::kafka::process::wait::Deadline;
use crate::wire::event::EventRecord;
use crate::worker::bridge;
use serinus_core::plan::rollout::ModelPlan;
use serinus_core::spec::plan::Document;

/// Default speed: ten days take about half a minute. An act ends earlier, with its verdict.
const SPEED: f64 = 32_000.0;
/// Timeout of one operation of Kafka or of the application.
const WAIT: Duration = Duration::from_secs(30);
/// Time in the month for which the replay continues after a verdict, to show its effect.
const AFTERMATH_MS: i64 = 24 * 3_600_000;
/// Time without a new record after which an act without a verdict is over.
const QUIET: Duration = Duration::from_secs(6);
/// Interval at which the status line is written.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// The cluster and the model of the demonstration.
struct Place {
    settings: Settings,
    plan: ModelPlan,
    /// The broker inside this process, which runs until this is dropped.
    embedded: Option<MockBroker>,
    /// The number of partitions of the request topic.
    partitions: i32,
}

/// The outcome of one act.
struct Outcome {
    act: &'static Act,
    ending: Option<EventRecord>,
    took: Duration,
}

/// Shows the acts, and returns the exit of the process: 0 if each act ended in its expected phase.
pub fn show(options: &DemoOptions) -> Result<Exit, CliError> {
    let stop = stop_on_signals()?;
    let mut screen = Screen::new();
    let acts: Vec<&'static Act> =
        ACTS.iter().filter(|s| options.acts.contains(&s.number)).collect();
    let place = Place::find(options, &acts, &mut screen)?;
    let builds = builds().map_err(|error| CliError::Run(Box::new(error)))?;
    let failed: Mutex<Option<CliError>> = Mutex::new(None);
    let run = RunOptions {
        settings: place.settings.clone(),
        instance: "demo".to_owned(),
        is_static: false,
        serving: true,
        analysis: true,
        control: true,
        data_dir: None,
    };
    let note = |result: Result<(), ShellError>, stop: &Shutdown| {
        if let Err(error) = result {
            let error = CliError::Run(Box::new(error));
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            stop.request();
        }
    };
    let shown = thread::scope(|scope| {
        let (stop, place, note) = (&stop, &place, &note);
        scope.spawn(|| note(run::run(&run, stop, &MetricsRegistry::default(), end), stop));
        for (version, mut predictor) in builds {
            let requests = place.requests_of(version);
            scope.spawn(move || {
                let answered = bridge::answer(&place.settings, &requests, &mut predictor, stop);
                note(answered.map(|_| ()), stop);
            });
        }
        let shown = play(options, &acts, place, &mut screen, stop);
        stop.request();
        shown
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => shown,
    }
}

impl Place {
    /// Starts the broker, or connects to the cluster, and creates the topics.
    fn find(options: &DemoOptions, acts: &[&Act], screen: &mut Screen) -> Result<Self, CliError> {
        let shell = |error: ShellError| CliError::Run(Box::new(error));
        let (settings, name, embedded) = if let Some(cluster) = &options.settings {
            // Each run has its own names, so that it does not read the topics of an earlier one.
            let app = format!("demo-{}", clock::now().0 / 1000);
            let name = format!("{app}-flights");
            screen.line(&format!(
                "Playing on {}; all topics are new and begin with `{app}`.",
                cluster.bootstrap
            ))?;
            (Settings { app, ..cluster.clone() }, name, None)
        } else {
            let embedded = MockBroker::start().map_err(shell)?;
            let settings = Settings::new(embedded.bootstrap(), &options.app);
            screen.line(&format!(
                "A Kafka broker runs inside this process, at {}. It is there to watch a rollout in: it has neither\n\
                 durability nor transactions, which a real cluster has (--bootstrap HOST:PORT).",
                embedded.bootstrap()
            ))?;
            (settings, "flights".to_owned(), Some(embedded))
        };
        let stable = acts.first().map_or("v1", |a| a.stable);
        let mut documents = vec![model(&name, stable)?];
        for act in &ACTS {
            documents.push(act.rollout(&name)?);
        }
        let wanted = specs::wanted(
            &settings.app,
            &documents,
            &std::collections::BTreeMap::new(),
            &std::collections::BTreeMap::new(),
        )?;
        match &embedded {
            Some(embedded) => embedded.create(&wanted).map_err(shell)?,
            None => {
                create_missing(&settings, &wanted, WAIT)?;
            }
        }
        let Some(Document::Model(plan, _)) = documents.into_iter().next() else {
            return Err(CliError::NotFound("the demonstration's model".to_owned()));
        };
        let partitions = plan.partitions;
        Ok(Self { settings, plan, embedded, partitions })
    }

    fn requests_of(&self, version: &str) -> Requests {
        Requests {
            topic: self.plan.topics.of_version(&version.into()),
            group: format!("{}.{version}.workers", self.plan.name),
            partitions: Vec::new(),
        }
    }
}

/// The state of the screen while an act is played.
struct Watch<'a> {
    scene: Scene,
    sources: Sources,
    records: TopicFollower,
    progress: &'a Progress,
    screen: &'a mut Screen,
    said_at: Instant,
    /// The time of the last record.
    heard_at: Instant,
}

fn play(
    options: &DemoOptions,
    acts: &[&'static Act],
    place: &Place,
    screen: &mut Screen,
    stop: &Shutdown,
) -> Result<Exit, CliError> {
    let flights = september_2013();
    let feeder = PlainProducer::new(&place.settings).map_err(|s| CliError::Run(Box::new(s)))?;
    let mut player = Player::new(&flights, feeder, &place.plan.topics, place.partitions);
    let sources = Sources {
        served: place.plan.topics.served.clone(),
        analysis: place.plan.topics.analysis.clone(),
        events: place.settings.topic("rollout-events"),
        metrics: place.settings.topic("rollout-metrics"),
    };
    let names = [&*sources.served, &*sources.analysis, &*sources.events, &*sources.metrics];
    let records = follow(&place.settings, &names)?;
    let progress = Progress {
        sent: AtomicU64::new(0),
        served: AtomicU64::new(0),
        now: AtomicI64::new(0),
        tick: AtomicI64::new(0),
        end: AtomicI64::new(0),
        is_over: AtomicBool::new(false),
    };
    let mut watch = Watch {
        scene: Scene::default(),
        sources: sources.clone(),
        records,
        progress: &progress,
        screen,
        said_at: clock::moment(),
        heard_at: clock::moment(),
    };
    let stable = acts.first().map_or("v1", |a| a.stable);
    watch.apply(&model(place.plan.name.as_str(), stable)?, place, stop)?;
    let mut outcomes = Vec::new();
    for act in acts {
        if stop.is_requested() {
            break;
        }
        let began = clock::moment();
        watch.act(act, options.speed.unwrap_or(SPEED), place, &mut player, stop)?;
        let ending = watch.scene.ending.clone();
        outcomes.push(Outcome { act, ending, took: began.elapsed() });
    }
    if stop.is_requested() {
        watch.screen.line("\nstopped before the end")?;
        return Ok(Exit::Failed);
    }
    watch.summary(&outcomes, options, place)?;
    if options.keep {
        watch.screen.line("\nThe world goes on running; Ctrl-C ends it.")?;
        while !stop.wait(Duration::from_secs(1)) {}
    }
    let is_as_told =
        |o: &Outcome| o.ending.as_ref().is_some_and(|event| event.to.phase.word() == o.act.ending);
    Ok(if outcomes.iter().all(is_as_told) { Exit::Reached } else { Exit::Failed })
}

/// Follows the topics from their beginning. New topics of a cluster have no leader for a moment, so this retries.
fn follow(settings: &Settings, topics: &[&str]) -> Result<TopicFollower, CliError> {
    let deadline = Deadline::after(WAIT);
    loop {
        match TopicReader::new(settings, WAIT)?.follow(topics, Start::Beginning) {
            Err(ReadError::Read { .. }) if !deadline.is_over() => {
                thread::park_timeout(Duration::from_millis(200));
            }
            followed => return Ok(followed?),
        }
    }
}

impl Watch<'_> {
    /// Sends a spec and waits for its answer on the topic of events.
    fn apply(
        &mut self,
        document: &Document,
        place: &Place,
        stop: &Shutdown,
    ) -> Result<(), CliError> {
        let ask =
            AskArgs { reason: None, expect_revision: None, by: "demo".to_owned(), timeout: WAIT };
        let id = wish(document).send(&commands(&place.settings)?, &ask)?;
        let deadline = Deadline::after(WAIT);
        while !deadline.is_over() && !stop.is_requested() {
            self.look(Duration::from_millis(20))?;
            let Some(answer) = self.scene.answer.take_if(|t| t.command_id.as_ref() == Some(&id))
            else {
                continue;
            };
            if answer.verdict.word() == "conflict" {
                return Err(CliError::Refused(answer.reason));
            }
            return Ok(());
        }
        if stop.is_requested() {
            return Ok(());
        }
        Err(CliError::NoAnswer { app: place.settings.app.clone(), wait: WAIT })
    }

    fn act(
        &mut self,
        act: &'static Act,
        speed: f64,
        place: &Place,
        player: &mut Player<'_>,
        stop: &Shutdown,
    ) -> Result<(), CliError> {
        let (from, to) = act.days();
        let days = (act.number - 1) * 10 + 1;
        let title = format!("Act {}: {} (September {days} to {})", act.number, act.title, days + 9);
        let title = self.screen.styled(Style::Bold, &title);
        self.screen.line(&format!("\n{title}"))?;
        for line in act.about {
            self.screen.line(&format!("  {line}"))?;
        }
        let rollout = act.rollout(place.plan.name.as_str())?;
        if let Document::Rollout(plan, _) = &rollout {
            self.scene.turn_to(plan.name.as_str(), plan.stages.len());
        }
        self.screen.line("")?;
        self.apply(&rollout, place, stop)?;
        self.progress.end.store(to, Ordering::Release);
        self.progress.tick.store(from, Ordering::Release);
        self.progress.is_over.store(false, Ordering::Release);
        let progress = self.progress;
        let result = thread::scope(|scope| {
            let playing = scope.spawn(move || {
                // The watching thread must see the end even if the player panics.
                let _over = Over(progress);
                player.play(from, speed, progress, stop)
            });
            let watched = self.until_over(from, to, stop);
            if watched.is_err() {
                stop.request();
            }
            let outcome = playing.join().unwrap_or_else(|_| {
                Err(ShellError::Missing("the player of the month crashed".to_owned()))
            });
            watched.and(outcome.map_err(|error| CliError::Run(Box::new(error))))
        });
        result?;
        if let Some(said) = self.scene.aftermath() {
            self.screen.line(&said)?;
        }
        self.screen.line("")?;
        let table = self.scene.table();
        self.screen.line(&table)
    }

    /// Watches until all requests are served and the rollout has ended, or until no more records arrive.
    fn until_over(&mut self, from: i64, to: i64, stop: &Shutdown) -> Result<(), CliError> {
        let mut is_cut = false;
        self.heard_at = clock::moment();
        while !stop.is_requested() {
            self.look(Duration::from_millis(20))?;
            let now = self.progress.now.load(Ordering::Acquire);
            if self.said_at.elapsed() >= STATUS_EVERY {
                self.said_at = clock::moment();
                let done = (now - from) as f64 / (to - from) as f64;
                self.screen.status(done, &self.scene.status(now))?;
            }
            if !is_cut && self.scene.ending.is_some() {
                is_cut = true;
                self.progress.end.store(to.min(now + AFTERMATH_MS), Ordering::Release);
            }
            let is_served = self.scene.served.records >= self.progress.sent.load(Ordering::Acquire);
            let is_quiet = self.heard_at.elapsed() >= QUIET;
            if self.progress.is_over.load(Ordering::Acquire)
                && ((is_served && self.scene.ending.is_some()) || is_quiet)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the records that have arrived, and waits for the first one.
    fn look(&mut self, wait: Duration) -> Result<(), CliError> {
        let mut wait = wait;
        for _ in 0..2000 {
            let Some(record) = self.records.next(wait)? else { break };
            wait = Duration::ZERO;
            self.heard_at = clock::moment();
            for line in self.scene.take(&record, &self.sources, self.screen) {
                self.screen.line(&line)?;
            }
            self.progress.served.store(self.scene.served.records, Ordering::Release);
            // After the end of a rollout there is no more evidence.
            let tick = if self.scene.ending.is_some() { i64::MAX } else { self.scene.tick };
            self.progress.tick.fetch_max(tick, Ordering::AcqRel);
        }
        Ok(())
    }

    fn summary(
        &mut self,
        outcomes: &[Outcome],
        options: &DemoOptions,
        place: &Place,
    ) -> Result<(), CliError> {
        let heading = self.screen.styled(Style::Bold, "What happened");
        self.screen.line(&format!("\n{heading}"))?;
        for it in outcomes {
            let lead = format!("  Act {} ({} s)", it.act.number, it.took.as_secs());
            let line = match &it.ending {
                Some(event) => {
                    let phase = event.to.phase.word();
                    let style = if phase == "Aborted" { Style::Bad } else { Style::Good };
                    let phase = self.screen.styled(style, phase);
                    let evidence = event.evidence.as_ref();
                    let at = evidence.map_or_else(String::new, |e| moment(e.tick));
                    format!("{lead}: {}: {phase} at {at}\n    {}", it.act.title, event.reason)
                }
                None => format!("{lead}: {} came to no verdict in its ten days", it.act.title),
            };
            self.screen.line(&line)?;
        }
        let sent = self.progress.sent.load(Ordering::Acquire);
        let served = &self.scene.served;
        let (records, ids) = (served.records, served.ids.len() as u64);
        let how = if records == sent && ids == sent {
            "each exactly once".to_owned()
        } else {
            format!("{} records of {} ids", say::count(records), say::count(ids))
        };
        self.screen.line(&format!(
            "  {} requests, {} served, {how}; {} not by the version that was asked; the truth was joined to {}.",
            say::count(sent),
            say::count(ids),
            say::count(served.not_ok),
            say::count(self.scene.labelled)
        ))?;
        let Settings { bootstrap, app, .. } = &place.settings;
        let rollout = &self.scene.rollout;
        let heading = self.screen.styled(Style::Bold, "Where to look next");
        self.screen.line(&format!("\n{heading}"))?;
        if place.embedded.is_some() && !options.keep {
            self.screen.line(
                "  The broker ends with this process: run it with --keep to look around while it is up, by",
            )?;
        }
        let app_flag = if app == "serinus" { String::new() } else { format!(" --app {app}") };
        for command in [
            format!("serinus status {rollout} --bootstrap {bootstrap}{app_flag}"),
            format!("serinus tail rollout-events --bootstrap {bootstrap}{app_flag}"),
            format!("serinus inspect UA1545-20130901-EWR --bootstrap {bootstrap}{app_flag}"),
            format!("kcat -C -e -b {bootstrap} -t {}", self.sources.metrics),
            format!("kcat -C -e -b {bootstrap} -t {}", self.sources.analysis),
        ] {
            self.screen.line(&format!("    {command}"))?;
        }
        Ok(())
    }
}

/// Marks the player as over when it is dropped.
struct Over<'a>(&'a Progress);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}
