//! The server from outside: HTTP and SSE on a real socket, a real journal, scripted models and tools behind the ports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

mod support;

mod access;
mod approvals;
mod bad_input;
mod contract;
mod days;
mod deletion;
mod docs;
mod fields;
mod growth;
mod history;
mod idempotency;
mod limits;
mod listing;
mod metrics;
mod model;
mod notes;
mod openapi;
mod ready;
mod recovery;
mod runs;
mod shutdown;
mod unheard;
mod updates;
mod upkeep;
