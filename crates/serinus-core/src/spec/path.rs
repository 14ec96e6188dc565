//! Paths of fields in a document, and what was found wrong at one.

use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a field of a mapping.
    Field(String),
    /// Into an item of a list.
    Item(usize),
}

/// Where something stands in a document: `spec.stages[1].share`.
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

/// What of a field is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Its name.
    Name,
    /// What it says.
    Value,
}

/// Something wrong in a document, not yet looked up in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) path: Path,
    /// What of it.
    pub(crate) aim: Aim,
    /// What was read, and why it cannot be.
    pub(crate) problem: String,
    /// What would do.
    pub(crate) help: Option<String>,
}

/// All that was found wrong in one document.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// Notes that what a field says is wrong.
    pub(crate) fn add(&mut self, path: Path, problem: impl Into<String>, help: impl Into<String>) {
        self.0.push(Fault {
            path,
            aim: Aim::Value,
            problem: problem.into(),
            help: Some(help.into()),
        });
    }

    /// Notes that a field stands where it must not.
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
