//! Printing: data on stdout in the wanted format, talk on stderr.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::cli::error::CliError;
use crate::cli::global::Format;

/// Where a command prints to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// The wanted format.
    pub(crate) format: Format,
}

impl Output {
    /// Prints a command's data: the value as it is, or the text that says it to people.
    pub(crate) fn document(
        self,
        value: &Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => line(&text()),
            Format::Json => {
                line(&serde_json::to_string_pretty(value).map_err(|v| form("JSON", &v))?)
            }
            Format::Yaml => line(&yaml(value)?),
        }
    }

    /// Prints one of several values that come one after the other.
    pub(crate) fn item(self, value: &Value, text: impl FnOnce() -> String) -> Result<(), CliError> {
        match self.format {
            Format::Table => line(&text()),
            Format::Json => line(&value.to_string()),
            Format::Yaml => line(&format!("---\n{}", yaml(value)?)),
        }
    }
}

/// Prints data to stdout; the text ends in one new line.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
    stdout.flush()?;
    Ok(())
}

/// Says something to the person at the terminal.
pub(crate) fn talk(text: &str) {
    // If stderr is closed, there is nowhere to report it.
    writeln!(io::stderr(), "{text}").ok();
}

/// Lays rows out in columns under a heading.
pub(crate) fn columns(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn yaml(value: &Value) -> Result<String, CliError> {
    serde_saphyr::to_string(value).map_err(|v| form("YAML", &v))
}

fn form(format: &'static str, problem: &dyn std::fmt::Display) -> CliError {
    CliError::Form { format, problem: problem.to_string() }
}
