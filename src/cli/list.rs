//! `serinus list` and `serinus get`.

use clap::Args;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{self, NameArgs};
use crate::cli::output::columns;
use crate::cli::say;
use crate::cli::state::{self, State};

/// What `get` takes.
#[derive(Clone, Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    name: NameArgs,
}

/// Lists every model with its newest rollout.
pub(crate) fn list(context: &Context) -> Result<Exit, CliError> {
    let states = state::read_all(context, &context.reader()?)?;
    let records = states.iter().map(|s| s.value.clone()).collect();
    context.output.document(&Value::Array(records), || table(&states))?;
    Ok(Exit::Reached)
}

/// Prints one whole state record; the text for people is YAML.
pub(crate) fn get(args: &GetArgs, context: &Context) -> Result<Exit, CliError> {
    let state = names::standing(context, &context.reader()?, &args.name.asked()?)?;
    context.output.document(&state.value, || {
        serde_saphyr::to_string(&state.value).unwrap_or_else(|_| state.value.to_string())
    })?;
    Ok(Exit::Reached)
}

fn table(states: &[State]) -> String {
    if states.is_empty() {
        return "no model yet: `serinus apply -f SPEC.yaml` brings the first".to_owned();
    }
    let rows = states
        .iter()
        .map(|s| {
            vec![
                s.model.clone(),
                s.rollout().unwrap_or("-").to_owned(),
                s.phase.word().to_owned(),
                if s.rollout().is_some() { s.stage() } else { "-".to_owned() },
                s.shares(),
                say::count_or_dash(s.revision()),
                s.since.map_or_else(|| "-".to_owned(), say::moment),
            ]
        })
        .collect();
    columns(&["MODEL", "ROLLOUT", "PHASE", "STAGE", "ROUTING", "REVISION", "SINCE (UTC)"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;
    use crate::cli::fixtures_for_tests::state;

    #[test]
    fn models_stand_in_columns() {
        let states = [
            state(json!({"stage": 1, "shares": {"v2": 0.05}})),
            state(
                json!({"rollout": null, "model": "trips", "phase": "Idle", "stable": "v4", "revision": 1}),
            ),
        ];
        insta::assert_snapshot!(table(&states), @r"
        MODEL    ROLLOUT     PHASE        STAGE    ROUTING                 REVISION  SINCE (UTC)
        flights  flights-v2  Progressing  stage 2  v1 95% (stable), v2 5%  7         2013-09-01 00:00:00
        trips    -           Idle         -        v4 100% (stable)        1         2013-09-01 00:00:00
        ");
    }
}
