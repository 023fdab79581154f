-- Owned by the store as a whole. `epoch` is that of the newest process.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('epoch', 0);

-- The projection of each session, written with the rows it follows from. Times are nanoseconds since 1970.
CREATE TABLE sessions (
    key           INTEGER PRIMARY KEY,
    id            BLOB NOT NULL UNIQUE,
    epoch         INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    last_event_id INTEGER NOT NULL,
    run_first_seq INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    open          INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    status        TEXT NOT NULL,
    visibility    TEXT NOT NULL,
    run_status    TEXT NOT NULL,
    checkpoint_id BLOB,
    model         TEXT,
    cwd           TEXT,
    title         TEXT NOT NULL,
    title_folded  TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_update ON sessions (updated_at DESC, id, status);
CREATE INDEX sessions_open ON sessions (open) WHERE open = 1;

-- The sequences. The payload is last, so that stepping over a row does not touch its overflow pages.
CREATE TABLE records (
    session       INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    class         INTEGER NOT NULL,
    message_index INTEGER,
    crc           INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    payload       TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX records_by_message ON records (session, message_index) WHERE message_index IS NOT NULL;
-- Control rows are few among events: folding finds them here, readers of events step over them.
CREATE INDEX records_control ON records (session, seq) WHERE class = 0;

CREATE TABLE runs (
    session INTEGER NOT NULL,
    run_id  BLOB NOT NULL,
    run     TEXT NOT NULL,
    PRIMARY KEY (session, run_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts (
    scope      TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    body_hash  BLOB NOT NULL,
    body       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_expiry ON receipts (expires_at);
