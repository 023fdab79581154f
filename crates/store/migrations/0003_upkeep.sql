-- How far upkeep has come in each session; without a row, nowhere. Positions are of its sequence, times nanoseconds since 1970.
CREATE TABLE upkeep (
    session     INTEGER PRIMARY KEY,
    -- Events up to here are gone. A session's newest never is.
    removed_to  INTEGER NOT NULL,
    -- Control rows up to here are gone unless they hold a message.
    pruned_to   INTEGER NOT NULL,
    -- Deltas up to here are merged.
    merged_to   INTEGER NOT NULL,
    -- Events up to here are counted in `event_bytes`.
    counted_to  INTEGER NOT NULL,
    event_bytes INTEGER NOT NULL,
    -- The end of the sequence when nothing was left to do, and the times of what was then the oldest of its kind:
    -- of the events that may go, and of the run ends whose deltas are not merged.
    settled_to  INTEGER NOT NULL,
    oldest_at   INTEGER,
    unmerged_at INTEGER
) STRICT;

-- Sessions that are no more, while their rows are being removed.
CREATE TABLE purging (
    session INTEGER PRIMARY KEY,
    id      BLOB NOT NULL
) STRICT;

-- The largest key of a session that was purged: keys are never given twice.
INSERT INTO meta (key, value) VALUES ('purged_key', 0);

-- Where runs end: merging looks for the next.
CREATE INDEX records_terminal ON records (session, seq) WHERE kind IN ('run_completed', 'run_error');
