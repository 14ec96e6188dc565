//! `serinus history`: every event of a rollout or model, oldest first.

use clap::Args;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::decoded::Decoded;
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{Asked, NameArgs};
use crate::cli::output::columns;
use crate::cli::say;
use crate::cli::state::shares;
use crate::wire::event::EventRecord;

type Event = Decoded<EventRecord>;

/// What `history` takes.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    name: NameArgs,
}

/// Prints the events of a rollout, of all its runs, or of a model and all its rollouts.
pub(crate) fn run(args: &HistoryArgs, context: &Context) -> Result<Exit, CliError> {
    let asked = args.name.asked()?;
    let records = context.read_own(&context.reader()?, "rollout-events")?;
    let all = records.iter().filter_map(Decoded::of);
    let mut events: Vec<Event> = all.filter(|e: &Event| is_of(&e.record, &asked)).collect();
    events.sort_by_key(|e| (e.record.model.clone(), e.record.sequence));
    if events.is_empty() {
        let problem = format!("there is no event of a rollout or model `{}`", asked.said());
        return Err(CliError::NotFound(problem));
    }
    let values = events.iter().map(|e| e.value.clone()).collect();
    context.output.document(&Value::Array(values), || table(&events))?;
    Ok(Exit::Reached)
}

fn is_of(event: &EventRecord, asked: &Asked) -> bool {
    let is_its = event.model == asked.name
        || event.rollout.as_deref().is_some_and(|rollout| asked.means(rollout));
    is_its && asked.may_be_of(&event.model)
}

fn table(events: &[Event]) -> String {
    let rows = events
        .iter()
        .map(|Decoded { record: e, .. }| {
            vec![
                e.sequence.to_string(),
                say::moment(e.at),
                e.rollout.clone().unwrap_or_else(|| e.model.clone()),
                e.verdict.word().to_owned(),
                e.to.phase.word().to_owned(),
                shares(Some(&e.to)),
                e.actor.clone(),
                e.reason.clone(),
            ]
        })
        .collect();
    let heading = ["#", "AT (UTC)", "OF", "VERDICT", "PHASE", "ROUTING", "BY", "REASON"];
    columns(&heading, rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_of, table};
    use crate::cli::fixtures_for_tests::event;
    use crate::cli::names::Asked;

    #[test]
    fn every_run_of_a_rollout_is_in_its_history() {
        let events = [
            event(json!({"verdict": "abort", "reason": "errors"})),
            event(
                json!({"sequence": 2, "rollout": "flights-v2#2", "verdict": "retry", "actor": "ann"}),
            ),
            event(json!({"sequence": 3, "rollout": "trips-v2", "model": "trips"})),
        ];
        let of = |name: &str| {
            let asked = Asked::of(name, None).expect("it is a name");
            events.iter().filter(|e| is_of(&e.record, &asked)).count()
        };
        assert_eq!([of("flights-v2"), of("flights-v2#2"), of("flights"), of("x")], [2, 1, 2, 0]);
        insta::assert_snapshot!(table(&events[..2]), @r"
        #  AT (UTC)             OF            VERDICT  PHASE        ROUTING           BY     REASON
        1  1970-01-01 00:00:00  flights-v2    abort    Progressing  v1 100% (stable)  judge  errors
        2  1970-01-01 00:00:00  flights-v2#2  retry    Progressing  v1 100% (stable)  ann
        ");
    }
}
