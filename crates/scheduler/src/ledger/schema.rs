//! The ledger's tables. Times are Unix milliseconds UTC; a row of `runs` is never deleted while its fire key can recur.

use stakpak_sqlite::Migration;

/// Numbered by position; only appended to.
pub(super) const MIGRATIONS: &[Migration] = &[
    RUNS,
    PROMPT,
    FIRING,
    CHECKS,
    OUTBOX,
    DECISIONS,
    ATTEMPTS,
    RETENTION,
    BACKFILL,
    CHATS,
    LIMITS,
    SPENDING,
    COST,
    CANCELS,
    EARLIER,
    WAITING,
    HOLD_REQUESTS,
];

const RUNS: Migration = Migration {
    name: "runs by fire key",
    sql: "
        CREATE TABLE schedule_state (
            name      TEXT PRIMARY KEY,
            spec_hash TEXT NOT NULL,
            cursor_at INTEGER NOT NULL
        ) STRICT;

        CREATE TABLE runs (
            id            INTEGER PRIMARY KEY AUTOINCREMENT,
            schedule      TEXT NOT NULL,
            source        TEXT NOT NULL,
            nominal_at    INTEGER,
            fire_key      TEXT NOT NULL UNIQUE,
            status        TEXT NOT NULL,
            reason        TEXT,
            blocking_run  INTEGER,
            spec_json     TEXT,
            profile       TEXT,
            model         TEXT,
            planned_at    INTEGER NOT NULL,
            dispatch_at   INTEGER NOT NULL,
            started_at    INTEGER,
            finished_at   INTEGER,
            session_id    TEXT,
            run_id        TEXT,
            checkpoint_id TEXT,
            cursor        INTEGER NOT NULL DEFAULT 0,
            stop_reason   TEXT,
            turns         INTEGER,
            usage_json    TEXT,
            agent_stdout  TEXT,
            agent_message TEXT,
            error         TEXT,
            pause_json    TEXT,
            paused_at     INTEGER,
            waited_ms     INTEGER NOT NULL DEFAULT 0,
            recoveries    INTEGER NOT NULL DEFAULT 0,
            updated_at    INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX runs_by_schedule ON runs (schedule, id);
        CREATE INDEX runs_by_status ON runs (status);
        CREATE INDEX runs_by_session ON runs (session_id);

        CREATE TABLE missed_ranges (
            schedule TEXT NOT NULL,
            from_at  INTEGER NOT NULL,
            to_at    INTEGER NOT NULL,
            count    INTEGER NOT NULL,
            reason   TEXT NOT NULL
        ) STRICT;

        CREATE TABLE scheduler_state (
            id           INTEGER PRIMARY KEY CHECK (id = 1),
            boot_id      TEXT NOT NULL,
            pid          INTEGER NOT NULL,
            started_at   INTEGER NOT NULL,
            heartbeat_at INTEGER NOT NULL
        ) STRICT;
    ",
};

/// The message of a run whose definition names a file.
const PROMPT: Migration = Migration { name: "prompt of a run", sql: "ALTER TABLE runs ADD COLUMN prompt TEXT;" };

/// What decides who may start, and schedules that are held.
const FIRING: Migration = Migration {
    name: "firing policies",
    sql: "
        ALTER TABLE runs ADD COLUMN exclusive_group TEXT;
        ALTER TABLE runs ADD COLUMN cancel_reason TEXT;
        ALTER TABLE runs ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE schedule_state ADD COLUMN paused_at INTEGER;
        ALTER TABLE schedule_state ADD COLUMN paused_until INTEGER;
        ALTER TABLE schedule_state ADD COLUMN paused_by TEXT;
        ALTER TABLE schedule_state ADD COLUMN pause_note TEXT;
        ALTER TABLE schedule_state ADD COLUMN failure_streak INTEGER NOT NULL DEFAULT 0;
    ",
};

/// What a check said; `checking` while it is at work. `agent_at`: since when the agent's time counts.
const CHECKS: Migration = Migration {
    name: "checks",
    sql: "
        ALTER TABLE runs ADD COLUMN checking INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE runs ADD COLUMN no_check INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE runs ADD COLUMN force INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE runs ADD COLUMN agent_at INTEGER;
        ALTER TABLE runs ADD COLUMN checked_at INTEGER;
        ALTER TABLE runs ADD COLUMN check_exit_code INTEGER;
        ALTER TABLE runs ADD COLUMN check_signal INTEGER;
        ALTER TABLE runs ADD COLUMN check_timed_out INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE runs ADD COLUMN check_stdout TEXT;
        ALTER TABLE runs ADD COLUMN check_stderr TEXT;
        ALTER TABLE runs ADD COLUMN check_truncated INTEGER NOT NULL DEFAULT 0;
    ",
};

/// What is to be told in chats. `delivery_id`: the gateway has it, and is asked what became of it.
const OUTBOX: Migration = Migration {
    name: "notifications",
    sql: "
        CREATE TABLE outbox (
            id              INTEGER PRIMARY KEY AUTOINCREMENT,
            run_id          INTEGER,
            event           TEXT NOT NULL,
            channel         TEXT NOT NULL,
            target_json     TEXT NOT NULL,
            idempotency_key TEXT NOT NULL UNIQUE,
            body_json       TEXT NOT NULL,
            state           TEXT NOT NULL,
            attempts        INTEGER NOT NULL DEFAULT 0,
            next_at         INTEGER NOT NULL,
            delivery_id     TEXT,
            last_error      TEXT,
            created_at      INTEGER NOT NULL,
            ended_at        INTEGER
        ) STRICT;
        CREATE INDEX outbox_by_run ON outbox (run_id);
        CREATE INDEX outbox_pending ON outbox (next_at) WHERE state = 'pending';
        CREATE INDEX outbox_ended ON outbox (ended_at) WHERE state IN ('failed', 'expired');
    ",
};

/// What was decided about the calls that runs waited with, and until when they wait. Call ids are unique in their session.
const DECISIONS: Migration = Migration {
    name: "decisions about calls",
    sql: "
        ALTER TABLE runs ADD COLUMN approval_expires_at INTEGER;

        CREATE TABLE decisions (
            run_id          INTEGER NOT NULL,
            session_id      TEXT NOT NULL,
            call_id         TEXT NOT NULL,
            action          TEXT NOT NULL,
            content         TEXT,
            decided_by      TEXT NOT NULL,
            decided_at      INTEGER NOT NULL,
            idempotency_key TEXT,
            request         TEXT,
            PRIMARY KEY (run_id, session_id, call_id)
        ) STRICT;
    ",
};

/// Attempts of runs that may have several, once they have ended.
const ATTEMPTS: Migration = Migration {
    name: "attempts of a run",
    sql: "
        ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;

        CREATE TABLE attempts (
            run_id       INTEGER NOT NULL,
            n            INTEGER NOT NULL,
            session_id   TEXT,
            agent_run_id TEXT,
            status       TEXT NOT NULL,
            error        TEXT,
            started_at   INTEGER,
            finished_at  INTEGER NOT NULL,
            PRIMARY KEY (run_id, n)
        ) STRICT;
    ",
};

/// Rows without output, kept for their fire keys.
const RETENTION: Migration = Migration {
    name: "retention",
    sql: "
        ALTER TABLE runs ADD COLUMN is_pruned INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX runs_by_end ON runs (finished_at) WHERE is_pruned = 0;
        CREATE INDEX runs_kept ON runs (schedule, id) WHERE is_pruned = 0;
        CREATE INDEX runs_pruned ON runs (planned_at) WHERE is_pruned = 1;
    ",
};

/// What was asked to be run afterwards. `overlap`: of the row, in the place of its schedule's.
const BACKFILL: Migration = Migration {
    name: "backfill",
    sql: "
        CREATE TABLE backfills (
            id              INTEGER PRIMARY KEY AUTOINCREMENT,
            schedule        TEXT NOT NULL,
            idempotency_key TEXT,
            request         TEXT NOT NULL,
            left_out        INTEGER NOT NULL,
            created_at      INTEGER NOT NULL,
            UNIQUE (schedule, idempotency_key)
        ) STRICT;
        CREATE INDEX backfills_by_age ON backfills (created_at);

        ALTER TABLE runs ADD COLUMN backfill_id INTEGER;
        ALTER TABLE runs ADD COLUMN overlap TEXT;
        CREATE INDEX runs_by_instant ON runs (schedule, nominal_at);
        CREATE INDEX runs_by_backfill ON runs (backfill_id) WHERE backfill_id IS NOT NULL;
    ",
};

/// Who starts a run, once somebody was asked: `chat` since `handed_over_at`, or `silent` because the gateway refused.
const CHATS: Migration = Migration {
    name: "runs in chats",
    sql: "
        ALTER TABLE runs ADD COLUMN way TEXT;
        ALTER TABLE runs ADD COLUMN handed_over_at INTEGER;
    ",
};

/// `over_limit`: it was to be cancelled at its time limit.
const LIMITS: Migration = Migration {
    name: "runs over their time",
    sql: "
        ALTER TABLE runs ADD COLUMN over_limit INTEGER NOT NULL DEFAULT 0;
    ",
};

/// What model calls took, by session and event; event 0 is what no report of the session told. `agent_began_at`: the agent was
/// asked for the first time, whatever attempts followed.
const SPENDING: Migration = Migration {
    name: "spending",
    sql: "
        ALTER TABLE runs ADD COLUMN agent_began_at INTEGER;
        CREATE INDEX runs_by_begin ON runs (agent_began_at) WHERE agent_began_at IS NOT NULL;

        CREATE TABLE spending (
            session_id TEXT NOT NULL,
            event_id   INTEGER NOT NULL,
            run_id     INTEGER NOT NULL,
            schedule   TEXT NOT NULL,
            spent_at   INTEGER NOT NULL,
            tokens     INTEGER NOT NULL,
            PRIMARY KEY (session_id, event_id)
        ) STRICT;
        CREATE INDEX spending_by_run ON spending (run_id);
        CREATE INDEX spending_by_time ON spending (spent_at);
    ",
};

/// What it cost, in millionths of a US dollar; none where the price is not known. `cost_limit_micros`: what the server is asked
/// to let the attempt under way cost.
const COST: Migration = Migration {
    name: "cost",
    sql: "
        ALTER TABLE spending ADD COLUMN usd_micros INTEGER;
        ALTER TABLE runs ADD COLUMN cost_usd_micros INTEGER;
        ALTER TABLE runs ADD COLUMN cost_limit_micros INTEGER;
    ",
};

/// Under which keys the end of a run was asked for.
const CANCELS: Migration = Migration {
    name: "cancels by key",
    sql: "
        CREATE TABLE cancels (
            run_id          INTEGER NOT NULL,
            idempotency_key TEXT NOT NULL,
            PRIMARY KEY (run_id, idempotency_key)
        ) STRICT;
    ",
};

/// That the runs of 0.3.x were copied; a row once they are.
const EARLIER: Migration = Migration {
    name: "runs of 0.3.x",
    sql: "
        CREATE TABLE earlier_import (
            id   INTEGER PRIMARY KEY CHECK (id = 1),
            runs INTEGER NOT NULL
        ) STRICT;
    ",
};

/// So that thousands of rows that wait cost nothing until their turn comes.
const WAITING: Migration = Migration {
    name: "rows that wait",
    sql: "
        DROP INDEX runs_by_status;
        CREATE INDEX runs_by_status ON runs (status, started_at);
        CREATE INDEX runs_waiting ON runs (dispatch_at, schedule, id) WHERE status = 'pending';
        CREATE INDEX runs_waiting_of_schedule ON runs (schedule) WHERE status = 'pending';
        CREATE INDEX schedules_held ON schedule_state (name) WHERE paused_at IS NOT NULL;
    ",
};

/// Under which keys schedules were held and let go on; `until`: of the hold that was made.
const HOLD_REQUESTS: Migration = Migration {
    name: "holds by key",
    sql: "
        CREATE TABLE hold_requests (
            schedule        TEXT NOT NULL,
            kind            TEXT NOT NULL,
            idempotency_key TEXT NOT NULL,
            request         TEXT NOT NULL,
            until           INTEGER,
            asked_at        INTEGER NOT NULL,
            PRIMARY KEY (schedule, kind, idempotency_key)
        ) STRICT;
    ",
};
