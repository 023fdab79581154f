-- Rows and runs in the order of their arrival: what one commit adds, from whichever sessions, lies on few pages.
CREATE TABLE records_in_order (
    place         INTEGER PRIMARY KEY,
    session       INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    class         INTEGER NOT NULL,
    message_index INTEGER,
    crc           INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    payload       TEXT NOT NULL
) STRICT;
INSERT INTO records_in_order (session, seq, class, message_index, crc, kind, payload)
    SELECT session, seq, class, message_index, crc, kind, payload FROM records ORDER BY session, seq;
DROP TABLE records;
ALTER TABLE records_in_order RENAME TO records;
CREATE UNIQUE INDEX records_by_seq ON records (session, seq);
CREATE UNIQUE INDEX records_by_message ON records (session, message_index) WHERE message_index IS NOT NULL;
-- Control rows are few among events: folding finds them here, readers of events step over them.
CREATE INDEX records_control ON records (session, seq) WHERE class = 0;

CREATE TABLE runs_in_order (
    place   INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    run_id  BLOB NOT NULL,
    run     TEXT NOT NULL
) STRICT;
INSERT INTO runs_in_order (session, run_id, run) SELECT session, run_id, run FROM runs;
DROP TABLE runs;
ALTER TABLE runs_in_order RENAME TO runs;
CREATE UNIQUE INDEX runs_by_id ON runs (session, run_id);
