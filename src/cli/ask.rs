//! Sends commands to the application, and waits for the answer: the event with the id of the command.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::decoded::Decoded;
use crate::cli::error::CliError;
use crate::cli::global::duration;
use crate::cli::output::talk;
use crate::cli::state::shares;
use crate::kafka::client::error::ReadError;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::{KeyedWriter, Start, TopicFollower};
use crate::kafka::process::wait::Deadline;
use crate::wire::event::EventRecord;
use serinus_core::engine::judge::event::Action;

/// How long a broker may take to accept a command.
const WRITE_MAX: Duration = Duration::from_secs(15);

/// What every command that changes something takes.
#[derive(Clone, Debug, Args)]
pub struct AskArgs {
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Refuse it unless the model's routing is still at this revision
    #[arg(long, value_name = "N")]
    pub expect_revision: Option<u64>,
    /// Who asks
    #[arg(long, value_name = "NAME", env = "USER", default_value = "unknown")]
    pub by: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// A command before it has an id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    /// The model.
    pub(crate) model: String,
    /// The rollout; `None` if the command is about the model itself.
    pub(crate) rollout: Option<String>,
    /// What to do.
    pub(crate) verb: &'static str,
    /// The spec to apply.
    pub(crate) spec: Option<Value>,
}

impl Wish {
    /// Returns the command record with this id.
    fn record(&self, id: &str, args: &AskArgs) -> Value {
        let mut record = json!({
            "id": id,
            "model": self.model,
            "rollout": self.rollout,
            "verb": self.verb,
            "by": args.by,
            "reason": args.reason.as_deref().unwrap_or_default(),
            "expect_revision": args.expect_revision,
        });
        if let (Some(spec), Some(members)) = (&self.spec, record.as_object_mut()) {
            members.insert("spec".to_owned(), spec.clone());
        }
        record
    }

    /// Writes the command to the commands topic, and returns its id.
    pub(crate) fn send(&self, commands: &KeyedWriter, args: &AskArgs) -> Result<String, ReadError> {
        let id = uuid::Uuid::now_v7().to_string();
        let value = self.record(&id, args).to_string();
        commands.write(&self.model, value.as_bytes())?;
        Ok(id)
    }
}

/// Returns a writer for the commands topic.
pub(crate) fn commands(settings: &Settings) -> Result<KeyedWriter, ReadError> {
    KeyedWriter::new(settings, settings.topic("commands"), WRITE_MAX)
}

/// Sends commands and waits for their answers.
pub(crate) struct Asker<'a> {
    context: &'a Context,
    settings: Settings,
    events: TopicFollower,
}

impl<'a> Asker<'a> {
    /// Follows the application's events from their end.
    pub(crate) fn new(context: &'a Context) -> Result<Self, CliError> {
        let topic = context.own("rollout-events");
        let events = context
            .reader()?
            .follow(&[&topic], Start::BeforeEnd(0))
            .map_err(|error| context.own_error(error))?;
        Ok(Self { context, settings: context.settings()?, events })
    }

    /// Sends a command and returns the event that answers it.
    pub(crate) fn ask(
        &self,
        wish: &Wish,
        args: &AskArgs,
    ) -> Result<Decoded<EventRecord>, CliError> {
        let id = wish.send(&commands(&self.settings)?, args)?;
        let deadline = Deadline::after(args.timeout);
        loop {
            let Some(record) = self.events.next(deadline.left())? else {
                return Err(CliError::NoAnswer {
                    app: self.context.app.clone(),
                    wait: args.timeout,
                });
            };
            let event: Option<Decoded<EventRecord>> = Decoded::of(&record);
            if let Some(event) = event.filter(|e| e.record.command_id.as_ref() == Some(&id)) {
                return Ok(event);
            }
        }
    }

    /// Asks, prints the answer, and fails when it is a refusal.
    pub(crate) fn ask_and_print(&self, wish: &Wish, args: &AskArgs) -> Result<(), CliError> {
        let Decoded { record: event, value } = self.ask(wish, args)?;
        if matches!(event.verdict, Action::Conflict | Action::Contested) {
            // A refusal is printed as a record, too.
            self.context.output.item(&value, || event.reason.clone())?;
            return Err(CliError::Refused(event.reason));
        }
        let name = wish.rollout.as_deref().unwrap_or(&wish.model);
        self.context.output.item(&value, || answer(name, &event))?;
        if args.reason.is_none() && wish.verb == "abort" {
            talk("next time say why with --reason: it is kept beside the decision");
        }
        Ok(())
    }
}

/// Returns the text of an answer that is not a refusal.
fn answer(name: &str, event: &EventRecord) -> String {
    let (to, verdict) = (&event.to, event.verdict.word());
    let (phase, revision) = (to.phase.word(), to.revision);
    let said =
        format!("{name}: {verdict}, now {phase} at revision {revision}, {}", shares(Some(to)));
    if event.reason.is_empty() { said } else { format!("{said}\n  {}", event.reason) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{AskArgs, Wish, answer};
    use crate::cli::fixtures_for_tests::{event, merge, position};

    #[test]
    fn a_command_carries_all_that_the_contract_says() {
        let args = AskArgs {
            reason: Some("the pager went off".to_owned()),
            expect_revision: Some(7),
            by: "ann".to_owned(),
            timeout: Duration::from_secs(30),
        };
        let mut wish = Wish {
            model: "flights".to_owned(),
            rollout: Some("flights-v2".to_owned()),
            verb: "abort",
            spec: None,
        };
        assert_eq!(
            wish.record("id-1", &args),
            json!({"id": "id-1", "model": "flights", "rollout": "flights-v2", "verb": "abort", "by": "ann",
                   "reason": "the pager went off", "expect_revision": 7})
        );
        wish = Wish { rollout: None, verb: "apply", spec: Some(json!({"kind": "Model"})), ..wish };
        let record = wish.record("id-2", &args);
        assert_eq!(
            (&record["rollout"], &record["spec"]),
            (&json!(null), &json!({"kind": "Model"}))
        );
    }

    #[test]
    fn an_answer_says_what_holds_now() {
        let mut to = position();
        merge(&mut to, json!({"phase": "Paused", "revision": 8, "shares": {"v2": 0.05}}));
        let event = event(json!({"verdict": "pause", "reason": "ann: lunch", "to": to}));
        assert_eq!(
            answer("flights-v2", &event.record),
            "flights-v2: pause, now Paused at revision 8, v1 95% (stable), v2 5%\n  ann: lunch"
        );
    }
}
