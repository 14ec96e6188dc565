//! Failpoints: places at which a test can crash the process, around every call of a transaction and wherever order matters.
//!
//! `SERINUS_CRASH_AT=ROLE/NAME:N` aborts the process when that role reaches the failpoint for the N-th time. A release
//! build has no failpoints.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// The failpoints, in the order in which a transaction reaches them.
// A new failpoint: its variant, its line in `ALL`, its name below; the test of all crash points finds it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// Before the slot's former owner is fenced.
    BeforeFence,
    /// After it.
    AfterFence,
    /// Lanes are restored, and nothing is read yet.
    AfterRestore,
    /// A transaction is begun, and nothing is in it.
    AfterBegin,
    /// Some records are handed to the client.
    AfterSend,
    /// A turn is done, and its journal is not written.
    BeforeJournal,
    /// A turn is done, its journal too, and no offset.
    AfterJournal,
    /// Before the offsets join the transaction.
    BeforeOffsets,
    /// After it.
    AfterOffsets,
    /// Before the commit.
    BeforeCommit,
    /// The commit is done, and no result of it was returned.
    AfterCommit,
    /// Partitions are to go away; what was done for them is committed.
    BeforeRelease,
    /// They are given up.
    AfterRelease,
    /// Before a lane's file is written.
    BeforeSave,
    /// The file is written, and not in its place yet.
    BeforeRename,
    /// It is in its place.
    AfterSave,
}

impl Failpoint {
    pub const ALL: [Self; 16] = [
        Self::BeforeFence,
        Self::AfterFence,
        Self::AfterRestore,
        Self::AfterBegin,
        Self::AfterSend,
        Self::BeforeJournal,
        Self::AfterJournal,
        Self::BeforeOffsets,
        Self::AfterOffsets,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeRelease,
        Self::AfterRelease,
        Self::BeforeSave,
        Self::BeforeRename,
        Self::AfterSave,
    ];

    /// Returns whether the failpoint surrounds the writing of a snapshot, which only the analysis role does.
    pub fn is_of_files(self) -> bool {
        matches!(self, Self::BeforeSave | Self::BeforeRename | Self::AfterSave)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeFence => "before-fence",
            Self::AfterFence => "after-fence",
            Self::AfterRestore => "after-restore",
            Self::AfterBegin => "after-begin",
            Self::AfterSend => "after-send",
            Self::BeforeJournal => "before-journal",
            Self::AfterJournal => "after-journal",
            Self::BeforeOffsets => "before-offsets",
            Self::AfterOffsets => "after-offsets",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeRelease => "before-release",
            Self::AfterRelease => "after-release",
            Self::BeforeSave => "before-save",
            Self::BeforeRename => "before-rename",
            Self::AfterSave => "after-save",
        }
    }
}

/// The name of a role, as in `serving/after-commit`.
pub type Role = &'static str;

/// Aborts the process here if `SERINUS_CRASH_AT` asks for it.
#[cfg(debug_assertions)]
pub fn at(role: Role, point: Failpoint) {
    static WISH: std::sync::OnceLock<Option<(String, u64)>> = std::sync::OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let wish = WISH.get_or_init(|| {
        let text = std::env::var("SERINUS_CRASH_AT").ok()?;
        let (place, nth) = text.rsplit_once(':')?;
        Some((place.to_owned(), nth.parse().ok()?))
    });
    if let Some((place, nth)) = wish
        && place.split_once('/') == Some((role, point.name()))
        && COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        tracing::warn!(role, point = point.name(), nth, "aborting at a failpoint");
        std::process::abort();
    }
}

/// Does nothing: a release build has no failpoints.
#[cfg(not(debug_assertions))]
pub fn at(_: Role, _: Failpoint) {}
