-- The newest snapshot of each session's control state, written with the rows it follows from. Nothing needs it.
CREATE TABLE snapshots (
    session INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    crc     INTEGER NOT NULL,
    state   TEXT NOT NULL
) STRICT;
