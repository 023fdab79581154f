//! The built binary, as people and programs meet it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

mod auth;
mod disk;
mod support;

mod beside;
mod channels;
mod chat;
mod compaction;
mod config;
mod crash;
mod doctor;
mod earlier;
mod fallback;
#[cfg(target_os = "linux")]
mod full_disk;
mod gateway;
mod init;
mod interactive;
mod logs;
mod mcp;
mod mcp_foreign;
mod mcp_serve;
mod newcomer;
mod notify;
mod operations;
mod outage;
mod platforms;
mod provider;
mod questions;
mod reload;
mod run;
#[cfg(target_os = "linux")]
mod sandbox;
mod schedules;
mod secrets;
mod server_table;
mod service;
mod sessions;
mod supervised;
mod tasks;
mod telegram;
mod traces;
mod upkeep;
#[cfg(target_os = "linux")]
mod witness;
