//! Tools of other programs, over the Model Context Protocol; and the product's own tools for other programs.
//!
//! Invariants:
//! * A server that is slow, dead or hostile holds up nothing but its own calls, and exhausts nothing: its answers, its list and its
//!   stderr are bounded.
//! * A call is sent once. One whose answer is missing has an outcome that is not known.
//! * A run keeps the list it began with; the list is the same bytes after a restart.
//! * A file of a working directory starts nothing before it is trusted; a tool that was approved and has changed asks again.
//! * Every text that leaves has been through the redactor; a server is given back only the secrets that it was granted by rule.
//! * A server that is to be confined runs confined or not at all.

mod host;
mod names;
mod place;
mod settings;
mod variables;

mod catalogue;
mod kept;

mod connection;
mod handler;
mod oversize;
mod stderr_log;
mod stdio;

mod call;
mod cap;
mod result;
mod server;
mod servers;

mod serve;

pub use host::{Confine, Host, Places};
pub use names::{NameError, check_server_name};
pub use place::{File, Found, PlaceError, find, trust};
pub use serve::{Offer, ServeError, Serving, Terms};
pub use servers::{AllTools, ServerReport, Servers};
pub use settings::{Protocol, ServerError, ServerTable, Settings, SettingsError, ToolEffect, parse};
pub use variables::UnsetVariable;
