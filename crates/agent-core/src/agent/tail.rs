//! What opening a session would fold: its control rows behind the last snapshot. Keeps them few.

use crate::{Row, RowClass, Snapshot, session::Session};

/// Rows that make a snapshot due: some ten turns. A run that is shorter never writes one.
const MANY_ROWS: usize = 64;

/// Bytes of rows that make one due.
const MANY_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    /// The run's first row: folding goes back no further.
    run: u64,
    rows: usize,
    bytes: usize,
    /// Size of the last snapshot.
    snapshot: usize,
}

impl Tail {
    /// These rows were folded when the session was opened, behind a snapshot of this size.
    pub(super) fn opened(session: &Session, rows: &[Row], snapshot: usize) -> Self {
        let mut tail = Self { run: session.row.run_first_seq, snapshot, ..Self::default() };
        tail.count(rows);
        tail
    }

    /// Rows are being appended; the snapshot that goes with them, if one is due and can be taken.
    pub(super) fn grow(&mut self, session: &Session, rows: &[Row]) -> Option<Snapshot> {
        if self.run != session.row.run_first_seq {
            *self = Self { run: session.row.run_first_seq, ..Self::default() };
        }
        self.count(rows);
        if !self.is_due() || !session.is_between_turns() {
            return None;
        }
        let snapshot = session.snapshot();
        // One that is too large is tried again as much later: nothing of it shrinks while its run lasts.
        let size = snapshot.as_ref().map_or(self.snapshot, |snapshot| snapshot.state.len());
        *self = Self { run: self.run, snapshot: size, ..Self::default() };
        snapshot
    }

    fn count(&mut self, rows: &[Row]) {
        for row in rows.iter().filter(|row| row.class == RowClass::Control && row.seq >= self.run) {
            self.rows += 1;
            self.bytes += row.payload.len();
        }
    }

    /// Snapshots never make a session write more than twice its rows.
    fn is_due(&self) -> bool {
        self.bytes >= MANY_BYTES || (self.rows >= MANY_ROWS && self.bytes >= self.snapshot)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use chrono::DateTime;
    use stakpak_protocol::{Message, RunId, RunLimits, SessionId, Usage};

    use super::*;
    use crate::{CallEnd, ModelTerms, Policy, Record, RunAccepted, SessionRow};

    fn running() -> Session {
        let at = DateTime::UNIX_EPOCH;
        let mut row = SessionRow::new(SessionId::random(), "", None, at);
        row.run_first_seq = 1;
        let mut session = Session::new(row);
        let accepted = RunAccepted {
            run_id: RunId::random(),
            at,
            model: "test/model".into(),
            profile: "default".into(),
            system_prompt: String::new(),
            max_turns: 256,
            no_progress: crate::NoProgress::default(),
            policy: Policy::with_defaults(),
            cwd: "/".into(),
            limits: RunLimits::default(),
            limit_keys: crate::LimitKeys::default(),
            terms: ModelTerms::default(),
            sandbox: crate::Sandbox::default(),
            notify_route: None,
            interactive: false,
            context: crate::ContextState::default(),
        };
        session.evolve(2, &Record::RunAccepted(accepted));
        session
    }

    fn rows(first: u64, count: usize, bytes: usize) -> Vec<Row> {
        let row = |seq| Row {
            seq,
            class: RowClass::Control,
            kind: String::new(),
            payload: "x".repeat(bytes),
            message_index: None,
        };
        (first..).take(count).map(row).collect()
    }

    #[test]
    fn many_rows_or_bytes_make_one_due_and_events_do_not() {
        let session = running();
        let mut tail = Tail::default();
        assert_eq!(tail.grow(&session, &rows(1, 63, 1_000)), None);
        let mut events = rows(64, 100, 10_000);
        events.iter_mut().for_each(|row| row.class = RowClass::Event);
        assert_eq!(tail.grow(&session, &events), None);
        let snapshot = tail.grow(&session, &rows(164, 1, 1)).unwrap();
        assert_eq!(Some(snapshot), session.snapshot());
        assert_eq!(tail.grow(&session, &rows(165, 63, 1_000)), None, "counting begins anew");
        assert!(tail.grow(&session, &rows(228, 1, 1)).is_some());
        assert!(tail.grow(&session, &rows(229, 2, 128 << 10)).is_some());
    }

    /// What was read at the opening counts; another run begins anew.
    #[test]
    fn the_tail_is_that_of_the_run() {
        let mut session = running();
        let mut tail = Tail::opened(&session, &rows(1, 63, 1_000), 0);
        assert!(tail.clone().grow(&session, &rows(64, 1, 1)).is_some());
        session.row.run_first_seq = 64;
        assert_eq!(tail.grow(&session, &rows(1, 64, 1_000)), None);
        assert!(tail.grow(&session, &rows(64, 64, 1_000)).is_some());
    }

    /// P44: of small rows it takes as many bytes as the last snapshot had.
    #[test]
    fn snapshots_are_no_more_than_the_rows() {
        let session = running();
        let mut tail = Tail::opened(&session, &[], 20_000);
        assert_eq!(tail.grow(&session, &rows(1, 64, 300)), None);
        assert!(tail.grow(&session, &rows(65, 3, 300)).is_some());
    }

    #[test]
    fn one_that_is_due_waits_for_the_end_of_the_turn() {
        let mut session = running();
        let mut tail = Tail::default();
        let (message, usage, reasoning) = (Message::assistant(Vec::new()), Usage::default(), None);
        let finish = stakpak_protocol::FinishReason::ToolCalls;
        let answered = Record::ModelAnswered { message, reasoning, usage, finish, cost_micros: None, estimated: None };
        session.evolve(3, &answered);
        assert_eq!(tail.grow(&session, &rows(1, 100, 1_000)), None);
        let message = Message::user("result");
        session.evolve(101, &Record::CallEnded { call_id: "a".into(), end: CallEnd::Done, message });
        session.evolve(102, &Record::TurnEnded);
        assert!(tail.grow(&session, &rows(101, 2, 10)).is_some());
    }
}
