//! The screen: lines that stay, and on a terminal one that tells what is going on.

use std::io::{self, IsTerminal, Write};

use crate::cli::error::CliError;
use crate::cli::say;

/// How wide the bar is.
const BAR: usize = 24;

/// How a piece of text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Bold,
    /// What is of less interest.
    Dim,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
}

/// Where the demonstration is shown.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    is_coloured: bool,
    has_status: bool,
}

impl Screen {
    /// Looks at stdout: plain lines where it is not a terminal.
    pub fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Self { is_terminal, is_coloured, has_status: false }
    }

    /// Shows a text in a style where the terminal has styles.
    pub fn styled(&self, style: Style, text: &str) -> String {
        if !self.is_coloured {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "1;32",
            Style::Bad => "1;31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Prints a line that stays.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        if self.has_status {
            self.has_status = false;
            write!(stdout, "\r\u{1b}[K")?;
        }
        writeln!(stdout, "{text}")?;
        stdout.flush()?;
        Ok(())
    }

    /// Shows what is going on, in place; nothing where stdout is not a terminal.
    pub fn status(&mut self, done: f64, text: &str) -> Result<(), CliError> {
        if !self.is_terminal {
            return Ok(());
        }
        self.has_status = true;
        let mut stdout = io::stdout().lock();
        let bar = self.styled(Style::Dim, &bar(done));
        write!(stdout, "\r\u{1b}[K  {bar} {text}")?;
        stdout.flush()?;
        Ok(())
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

fn bar(done: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the bar's width before"
    )]
    let full = (done.clamp(0.0, 1.0) * BAR as f64) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

/// Says a moment of the month: `Sep 03 14:00`, in UTC.
pub fn moment(unix_ms: i64) -> String {
    let said = say::moment(unix_ms);
    let month = match said.get(5..7) {
        Some("08") => "Aug",
        Some("09") => "Sep",
        Some("10") => "Oct",
        Some(other) => other,
        None => "?",
    };
    format!("{month} {} {}", said.get(8..10).unwrap_or("?"), said.get(11..16).unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::{bar, moment};

    #[test]
    fn a_moment_and_a_bar_are_read_at_a_glance() {
        assert_eq!(moment(1_378_026_960_000), "Sep 01 09:16");
        assert_eq!(bar(0.5), "[############------------]");
        assert_eq!(bar(7.0), "[########################]");
    }
}
