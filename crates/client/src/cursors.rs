//! Where the events of this client's own messages begin: session → cursor of the newest POST, until it is used.
//!
//! Bounded: the oldest entry gives way, so a client that posts and never listens does not grow.

use std::collections::VecDeque;

use stakpak_protocol::{EventId, SessionId};

/// Enough for all conversations of a busy gateway between a POST and its subscription.
const CAPACITY: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Cursors(VecDeque<(SessionId, EventId)>);

impl Cursors {
    pub(crate) fn remember(&mut self, session: SessionId, cursor: EventId) {
        self.0.retain(|(known, _)| *known != session);
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back((session, cursor));
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<EventId> {
        self.0.iter().find(|(known, _)| *known == session).map(|(_, cursor)| *cursor)
    }

    /// Drops the entry unless a newer POST has replaced it meanwhile.
    pub(crate) fn used(&mut self, session: SessionId, cursor: EventId) {
        self.0.retain(|entry| *entry != (session, cursor));
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, Cursors};
    use stakpak_protocol::{EventId, SessionId};

    #[test]
    fn the_oldest_gives_way_and_a_newer_post_survives_the_use_of_an_older_one() {
        let mut cursors = Cursors::default();
        let first = SessionId::random();
        cursors.remember(first, EventId(1));
        cursors.remember(first, EventId(7));
        cursors.used(first, EventId(1));
        assert_eq!(cursors.get(first), Some(EventId(7)));

        for _ in 0..CAPACITY {
            cursors.remember(SessionId::random(), EventId(2));
        }
        assert_eq!(cursors.get(first), None);
        assert_eq!(cursors.0.len(), CAPACITY);
    }
}
