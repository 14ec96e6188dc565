//! Log texts of the program that tests wait for, or assert the absence of.

use crate::repository::sources;

/// A lane has restored its state; the log of an analyst lane has the longer text.
const LANE_READY: &str = "lane ready";
const ANALYST_LANE_READY: &str = "analyst lane ready";
/// The control role judges a partition of models.
const JUDGING: &str = ": judging";
/// A role restarts from its committed offsets.
pub const ROLE_RESTARTED: &str = "role restarting";
pub const ROUTING_KNOWN: &str = "routing updated";
pub const NO_MODEL: &str = "no model found";
pub const SPEC_RETRIED: &str = "spec not sent yet, trying again";
pub const STATE_LOST: &str = "model state lost: rebuilt from its events";
pub const CASES_WAIT: &str = "maturity is on hold";
pub const LABELS_UNCONFIRMED: &str = "cannot confirm that all labels were read";
pub const OFFSETS_WITHHELD: &str = "the broker has withheld the group's committed offsets";
pub const OFFSETS_FROM_JOURNALS: &str = "using the previous offsets and the journals";
pub const JOURNAL_WINS: &str = "resuming from the journal";
pub const RECORDS_DELETED: &str = "records were deleted before they were read";
pub const SNAPSHOT_NOT_SAVED: &str = "snapshot not written; a restart takes longer";

const ALL: &[&str] = &[
    LANE_READY,
    ANALYST_LANE_READY,
    JUDGING,
    ROLE_RESTARTED,
    ROUTING_KNOWN,
    NO_MODEL,
    SPEC_RETRIED,
    STATE_LOST,
    CASES_WAIT,
    LABELS_UNCONFIRMED,
    OFFSETS_WITHHELD,
    OFFSETS_FROM_JOURNALS,
    JOURNAL_WINS,
    RECORDS_DELETED,
    SNAPSHOT_NOT_SAVED,
];

/// The number of serving lanes that were restored so far.
pub fn serving_lanes(log: &str) -> usize {
    log.matches(LANE_READY).count() - analyst_lanes(log)
}

/// The number of analyst lanes that were restored so far.
pub fn analyst_lanes(log: &str) -> usize {
    log.matches(ANALYST_LANE_READY).count()
}

/// The number of command partitions that were assigned so far.
pub fn judged_partitions(log: &str) -> usize {
    log.matches(JUDGING).count()
}

/// Without this, a reworded message would turn an assertion of its absence into one that always holds.
#[test]
fn the_program_logs_every_text() {
    let program = ["src", "crates"].iter().flat_map(|folder| sources(folder));
    let program: String = program.map(|(_, text)| text).collect();
    for text in ALL {
        // A role's name may be a parameter of the message.
        let text = text.trim_start_matches(": ").trim_start_matches("analyst ");
        assert!(program.contains(text), "no file of the program has `{text}`");
    }
}
