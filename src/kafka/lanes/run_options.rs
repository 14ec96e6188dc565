//! What an instance is started with.

use std::path::PathBuf;

use crate::kafka::client::settings::Settings;

/// What an instance is started with.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says yes or no to one thing of its own")]
pub struct RunOptions {
    /// How to reach Kafka, and which application this is.
    pub settings: Settings,
    /// The instance's name: its slot. Two instances at once with one name fence each other.
    pub instance: String,
    /// Whether the name stays the same over restarts, so that a restart takes its own work back at once.
    pub is_static: bool,
    /// Whether it routes and serves.
    pub serving: bool,
    /// Whether it joins and sums up.
    pub analysis: bool,
    /// Whether it judges.
    pub control: bool,
    /// Where the files of its analyst lanes live; without one there are none.
    pub data_dir: Option<PathBuf>,
}
