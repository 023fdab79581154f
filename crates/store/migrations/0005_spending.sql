-- What the runs of each profile took, by quarters of an hour since 1970: days of every zone begin where a quarter does.
-- Written with the answers, so that days outlive the sessions; quarters of past days go when a new one is written.
CREATE TABLE spending (
    profile     TEXT NOT NULL,
    quarter     INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    cost_micros INTEGER NOT NULL,
    runs        INTEGER NOT NULL,
    PRIMARY KEY (profile, quarter)
) STRICT, WITHOUT ROWID;
