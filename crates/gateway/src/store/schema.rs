//! The tables.

use stakpak_sqlite::Migration;

/// The first two tables may exist already: those of 0.3.x are used as they are.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "tables",
        sql: "
CREATE TABLE IF NOT EXISTS sessions (
    routing_key TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    title TEXT NOT NULL,
    channel TEXT NOT NULL,
    peer_id TEXT NOT NULL,
    chat_type TEXT NOT NULL,
    channel_meta TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS delivery_context (
    channel TEXT NOT NULL,
    target_key TEXT NOT NULL,
    context TEXT NOT NULL,
    delivered_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (channel, target_key)
);
-- The key under which the next session of a conversation is created.
CREATE TABLE session_state (
    routing_key TEXT PRIMARY KEY,
    creation_key TEXT NOT NULL,
    title TEXT NOT NULL
);
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    event_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    address TEXT,
    sender TEXT,
    order_key INTEGER NOT NULL,
    payload TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    batch_id TEXT,
    run_id TEXT,
    context TEXT,
    request TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    first_post_at INTEGER,
    UNIQUE (channel, account, event_key)
);
CREATE INDEX inbox_open ON inbox (routing_key, id) WHERE state IN ('accepted', 'batched', 'running');
CREATE INDEX inbox_batch ON inbox (batch_id) WHERE batch_id IS NOT NULL;
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    address TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT,
    started_at INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX runs_open ON runs (routing_key) WHERE state = 'open';
-- The row id is the order within a chat.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    idem_key TEXT NOT NULL UNIQUE,
    chat_key TEXT NOT NULL,
    address TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    uncertain INTEGER NOT NULL DEFAULT 0,
    platform_message_id TEXT,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    error TEXT
);
CREATE INDEX outbox_open ON outbox (chat_key, id) WHERE state IN ('queued', 'sending');
CREATE TABLE watermarks (
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    stream TEXT NOT NULL,
    position INTEGER NOT NULL,
    moved_at INTEGER NOT NULL,
    PRIMARY KEY (channel, account, stream)
);
CREATE TABLE strangers (
    channel TEXT NOT NULL,
    user_id TEXT NOT NULL,
    chat_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    last_seen INTEGER NOT NULL,
    told_at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (channel, user_id)
);
CREATE TABLE sends (
    idem_key TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
",
    },
    Migration {
        name: "contents",
        sql: "
-- What a message of the outbox waits behind: its chat, or a lane of its own for signs that must not delay texts.
ALTER TABLE outbox RENAME COLUMN chat_key TO lane;
-- The empty message that was sent in the place of a text that may have been sent already.
ALTER TABLE outbox ADD COLUMN stub_id TEXT;
-- What people said about a conversation.
CREATE TABLE conversations (
    routing_key TEXT PRIMARY KEY,
    held INTEGER NOT NULL DEFAULT 0,
    model TEXT
);
-- The platform's id of the message, for replies, signs and edits.
ALTER TABLE inbox ADD COLUMN message_id TEXT;
CREATE INDEX inbox_message ON inbox (channel, account, message_id) WHERE message_id IS NOT NULL;
-- How much of the answer was sent while the run went on.
ALTER TABLE runs ADD COLUMN shown INTEGER NOT NULL DEFAULT 0;
",
    },
    super::access::TABLES,
    super::approvals::TABLES,
    super::sends::TABLES,
    super::runs::TABLES,
    super::audit::TABLES,
    Migration {
        name: "indexes",
        sql: "
-- A partial index serves only statements that repeat its condition; most asked for one state of several and read every row.
DROP INDEX inbox_open;
DROP INDEX outbox_open;
CREATE INDEX inbox_state ON inbox (state, routing_key);
CREATE INDEX inbox_run ON inbox (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX outbox_state ON outbox (state, lane);
CREATE INDEX approvals_state ON approvals (state, routing_key);
CREATE INDEX approvals_prompt ON approvals (prompt_key);
CREATE INDEX runs_failed ON runs (routing_key) WHERE outcome <> 'completed';
CREATE INDEX sends_age ON sends (created_at);
CREATE INDEX sessions_session ON sessions (session_id);
CREATE INDEX access_roles ON access (channel, kind, role);
",
    },
];
