//! The journal on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod conformance;
mod crash;
mod damage;
mod file;
mod fixture;
mod growth;
mod health;
mod ownership;
mod receipts;
mod torn_log;
mod upkeep;
