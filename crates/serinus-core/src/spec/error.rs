//! Errors in a spec: the position, the value that was read, and a valid value.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::spec::path::{Aim, Fault, Path};
use crate::spec::tree::{Node, TextPosition};

/// One error in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The name of the file; empty if the spec comes from a record.
    pub file: String,
    /// The line, counted from 1; absent if the spec comes from a record.
    pub line: Option<usize>,
    /// The column, counted from 1.
    pub column: Option<usize>,
    /// The path of the field; empty for the whole document.
    pub field: String,
    /// The value that was read, and why it is wrong.
    pub problem: String,
    /// A valid value, or how to fix the error.
    pub help: Option<String>,
    source_line: Option<SourceLine>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceLine {
    text: String,
    width: usize,
}

impl PlanError {
    /// Returns the error for a fault, with its position in the text of the document.
    pub(crate) fn new(file: &str, text: &str, tree: Option<&Node>, fault: Fault) -> Self {
        let position = tree.and_then(|t| t.position_of(&fault.path, fault.aim));
        // A missing field has no position: the path is that of the field, the position is that of its parent.
        debug_assert!(fault.aim == Aim::Value || !fault.path.0.is_empty());
        Self::at(file, text, position, fault.path.to_string(), fault.problem, fault.help)
    }

    /// Returns the error for a field of the document with this kind and name.
    pub fn of_document(
        file: &str,
        text: &str,
        (kind, name): (&str, &str),
        field: &str,
        (problem, help): (String, Option<&str>),
    ) -> Self {
        let nodes = Node::read_all(text).unwrap_or_default();
        let is_it = |node: &&Node| {
            let json = node.to_json();
            json["kind"] == kind && json["metadata"]["name"] == name
        };
        let path = field.split('.').fold(Path::default(), |path, step| path.field(step));
        let help = help.map(str::to_owned);
        Self::new(
            file,
            text,
            nodes.iter().find(is_it),
            Fault { path, aim: Aim::Value, problem, help },
        )
    }

    /// Returns the error for a position in a text.
    pub(crate) fn at(
        file: &str,
        text: &str,
        position: Option<TextPosition>,
        field: String,
        problem: String,
        help: Option<String>,
    ) -> Self {
        let source_line = position.and_then(|p| {
            let line = text.lines().nth(p.line.checked_sub(1)?)?;
            Some(SourceLine { text: line.to_owned(), width: p.width })
        });
        Self {
            file: file.to_owned(),
            line: position.map(|p| p.line),
            column: position.map(|p| p.column),
            field,
            problem,
            help,
            source_line,
        }
    }
}

impl SourceLine {
    /// Returns the line with its number and with carets under the node.
    fn snippet(&self, line: usize, column: usize) -> String {
        let byte_of =
            |nth: usize| self.text.char_indices().nth(nth).map_or(self.text.len(), |c| c.0);
        let first = column.saturating_sub(1);
        let span = byte_of(first)..byte_of(first.saturating_add(self.width));
        let snippet = Snippet::source(&*self.text)
            .line_start(line)
            .annotation(AnnotationKind::Primary.span(span));
        Renderer::plain().render(&[Group::with_level(Level::ERROR).element(snippet)])
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
        }
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        if !self.file.is_empty() || self.line.is_some() {
            f.write_str(" ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.problem)?;
        let gutter = self.line.map_or(1, |l| l.to_string().len());
        if let (Some(source), Some(line), Some(column)) =
            (&self.source_line, self.line, self.column)
        {
            write!(f, "\n{}", source.snippet(line, column))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$} = {help}", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanError {}

/// All errors of a spec, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecErrors(pub Vec<PlanError>);

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}
