//! Opening a session: the last snapshot, and folding what came after it.

use stakpak_protocol::SessionId;

use super::{Resident, history::History, tail::Tail};
use crate::{
    Journal, JournalError, SessionRow,
    session::{Session, Stored},
};

impl Resident {
    /// Reads a session's state.
    ///
    /// # Errors
    /// When there is no such session, or when it cannot be read.
    pub async fn open(journal: &dyn Journal, id: SessionId) -> Result<Self, JournalError> {
        let row = journal.session(id).await?.ok_or(JournalError::UnknownSession(id))?;
        let first = row.run_first_seq;
        if first == 0 {
            return Ok(Self::new(Session::new(row)));
        }
        let last = row.last_seq;
        let (session, tail) = if let Some((mut session, seq, size)) = restore(journal, &row).await? {
            let rows = journal.control_rows(id, seq + 1, last).await?;
            session.fold_on(&rows).map_err(|_| JournalError::Damaged { session: id, seq: seq + 1 })?;
            let tail = Tail::opened(&session, &rows, size);
            (session, tail)
        } else {
            let rows = journal.control_rows(id, first, last).await?;
            let session = Session::fold(row, &rows).map_err(|_| JournalError::Damaged { session: id, seq: first })?;
            let tail = Tail::opened(&session, &rows, 0);
            (session, tail)
        };
        let history = History::of(&session.row);
        Ok(Self { session, history, tail })
    }
}

/// The state at the last snapshot of the last run, its position, and its size; none when there is none that can be used.
async fn restore(journal: &dyn Journal, row: &SessionRow) -> Result<Option<(Session, u64, usize)>, JournalError> {
    let run = row.run_first_seq..=row.last_seq;
    let Some(snapshot) = journal.snapshot(row.id).await?.filter(|snapshot| run.contains(&snapshot.seq)) else {
        return Ok(None);
    };
    let Some(stored) = Stored::read(&snapshot) else { return Ok(None) };
    let mut named = Vec::new();
    for place in stored.places() {
        match journal.control_rows(row.id, place, place).await {
            Ok(rows) => named.extend(rows),
            // Folding everything meets it again, and tells.
            Err(JournalError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let restored = stored.restore(row.clone(), &named);
    Ok(restored.map(|session| (session, snapshot.seq, snapshot.state.len())))
}
