//! Tools that run on this machine: shell commands, also in the background, looking at, creating, editing and removing files, web
//! pages, new passwords.
//!
//! Invariants:
//! * A call that is over has left no process behind, however it ended: by itself, by its timeout, by cancel, by being
//!   dropped, or (through [`LocalTools::end_orphans`](stakpak_agent_core::Tools::end_orphans)) by the death of the server.
//! * A task outlives its call and the server, and nothing else does: it ends with its session.
//! * No output is lost below the cap, and memory per call does not grow with the output.
//! * A file is whole at every moment: a write lands by rename or not at all.
//! * Every text that leaves has been hidden in, and what a call is given back of it goes to that call only.
//! * A call of a run with a sandbox runs inside it or not at all.
//! * No path, pattern or id is ever part of a shell line.

mod arguments;
mod catalogue;
mod command;
mod error;
mod files;
mod local;
mod modes;
mod notify;
mod off_worker;
mod password;
mod processes;
mod questions;
mod sandbox;
mod secrets;
mod shell_question;
mod tasks;
mod text;
mod web;

pub use catalogue::NAMES;
pub use local::{LocalTools, LocalToolsConfig};
pub use notify::{Notice, Notifier, Unsent};
pub use questions::{Answer, Answers, Choice, Question, Questions};
pub use sandbox::{ConfinedProcess, ContainerMode, ContainersConfig, container_engines, sandbox_support};
pub use secrets::VaultSecrets;
pub use tasks::{TaskShim, TasksConfig, run_task_shim};
