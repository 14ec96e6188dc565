//! The options of an instance.

use std::path::PathBuf;

use crate::kafka::client::settings::Settings;

/// The options of an instance.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches")]
pub struct RunOptions {
    /// How to reach Kafka, and which application this is.
    pub settings: Settings,
    /// The instance's name, part of its transactional ids. Two instances with one name fence each other.
    pub instance: String,
    /// Whether the name survives restarts, so that a restarted instance gets its partitions back at once (static group membership).
    pub is_static: bool,
    /// Whether it runs the serving role.
    pub serving: bool,
    /// Whether it runs the analysis role.
    pub analysis: bool,
    /// Whether it runs the control role.
    pub control: bool,
    /// The folder for snapshots of analyst lanes; nothing to keep no snapshots.
    pub data_dir: Option<PathBuf>,
}
