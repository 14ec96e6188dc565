//! Names and numbers that identify things, each with its own type.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text as it is.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A named prediction service with one request topic.
    ModelName
}
name! {
    /// One deployed build of a model.
    Version
}
name! {
    /// One attempt to bring candidates in.
    RolloutName
}
name! {
    /// The caller's name for a request; two requests may share one.
    RequestId
}
name! {
    /// A metric's name within its rollout.
    MetricName
}
name! {
    /// The randomness of a rollout's assignment, fixed when it starts.
    Salt
}

/// One request, identified by its partition and offset in the model's request topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseId {
    /// The home partition: its answers are on the partition with the same number.
    pub partition: i32,
    /// The request's offset.
    pub offset: i64,
}

/// Counts every change of a model's routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stage of a rollout, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageIndex(pub u32);

impl fmt::Display for StageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl RolloutName {
    /// Returns the name of a run: `flights-v2` is the first, `flights-v2#2` the second.
    pub fn of_run(name: &str, run: u32) -> Self {
        if run <= 1 { Self::new(name) } else { Self::new(format!("{name}#{run}")) }
    }

    /// Returns the name in the spec, without the run, and the number of the run.
    pub fn parts(&self) -> (&str, u32) {
        let parts = self.as_str().rsplit_once('#');
        parts.and_then(|(name, run)| Some((name, run.parse().ok()?))).unwrap_or((self.as_str(), 1))
    }

    /// Returns whether a command for this name means the rollout: the name without a run means the newest one.
    pub fn is_meant_by(&self, asked: &Self) -> bool {
        self == asked || self.parts().0 == asked.as_str()
    }

    /// Returns the number of the run.
    pub fn run(&self) -> u32 {
        self.parts().1
    }
}
