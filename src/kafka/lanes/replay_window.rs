//! Where a lane can restart a replay: the beginnings of recent turns, back to the one that its oldest case needs.

use std::collections::VecDeque;

use crate::wire::journal::ReplayStart;

/// The beginnings of turns that a replay may have to start at, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    starts: VecDeque<ReplayStart>,
}

impl ReplayWindow {
    /// Makes a window of these beginnings, oldest first.
    pub fn of(starts: impl IntoIterator<Item = ReplayStart>) -> Self {
        Self { starts: starts.into_iter().collect() }
    }

    /// Adds the beginning of a turn, which is newer than all before.
    pub fn push(&mut self, start: ReplayStart) {
        self.starts.push_back(start);
    }

    /// Returns the beginnings, oldest first.
    pub fn starts(&self) -> impl Iterator<Item = &ReplayStart> {
        self.starts.iter()
    }

    /// Returns the newest beginning.
    pub fn newest(&self) -> Option<&ReplayStart> {
        self.starts.back()
    }

    /// Drops every beginning: nothing is left that a replay would have to restore.
    pub fn clear(&mut self) {
        self.starts.clear();
    }

    /// Drops the beginnings before the newest one that is early enough for a replay.
    pub fn drop_before(&mut self, is_early_enough: impl Fn(&ReplayStart) -> bool) {
        while self.starts.get(1).is_some_and(&is_early_enough) {
            self.starts.pop_front();
        }
    }

    /// Returns where a replay starts for a lane that is now at `here`.
    pub fn replay_start(&self, here: ReplayStart) -> ReplayStart {
        let oldest = self.starts.front().copied().unwrap_or(here);
        ReplayStart { next: here.next, published: here.published, ..oldest }
    }
}

#[cfg(test)]
mod tests {
    use super::ReplayWindow;
    use crate::wire::journal::ReplayStart;

    fn start(turn: u64, first: i64) -> ReplayStart {
        ReplayStart { turn, first, next: turn, ..ReplayStart::default() }
    }

    #[test]
    fn a_replay_starts_at_the_newest_turn_that_is_early_enough() {
        let mut window = ReplayWindow::of([start(1, 10), start(2, 20), start(3, 30)]);
        let here = ReplayStart { published: 5, ..start(4, 40) };
        window.drop_before(|s| s.first <= 5);
        assert_eq!(window.replay_start(here).turn, 1, "the oldest stays even if it is too late");
        window.drop_before(|s| s.first <= 29);
        let found = window.replay_start(here);
        assert_eq!((found.turn, found.first, found.next, found.published), (2, 20, 4, 5));
        window.clear();
        assert_eq!(window.replay_start(here), here);
    }
}
