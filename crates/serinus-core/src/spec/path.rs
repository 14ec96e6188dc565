//! Paths of fields in a document, and the faults at these paths.

use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a field of a mapping.
    Field(String),
    /// Into an item of a list.
    Item(usize),
}

/// A path in a document, such as `spec.stages[1].share`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl Path {
    /// Returns the path of a field below this one.
    pub(crate) fn field(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Field(name.to_owned()));
        Self(steps)
    }

    /// Returns the path of an item below this one.
    pub(crate) fn item(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// The part of a field that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Its name.
    Name,
    /// Its value.
    Value,
}

/// A fault in a document. Its place in the text is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The path of the field.
    pub(crate) path: Path,
    /// The part of the field.
    pub(crate) aim: Aim,
    /// The value that was read, and why it is wrong.
    pub(crate) problem: String,
    /// A valid value, or how to fix the fault.
    pub(crate) help: Option<String>,
}

/// All faults of one document.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// Adds a fault of a field's value.
    pub(crate) fn add(&mut self, path: Path, problem: impl Into<String>, help: impl Into<String>) {
        self.0.push(Fault {
            path,
            aim: Aim::Value,
            problem: problem.into(),
            help: Some(help.into()),
        });
    }

    /// Adds a fault of a field that must not be there.
    pub(crate) fn add_name(
        &mut self,
        path: Path,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.0.push(Fault {
            path,
            aim: Aim::Name,
            problem: problem.into(),
            help: Some(help.into()),
        });
    }
}
