//! The agent server: HTTP and SSE over the journal.
//!
//! It turns requests into session requests and journal reads, and knows neither SQL nor any provider or chat platform.
//! Routes answer 2xx to a write only after its effect is durable; events are sent only after they are.

pub mod edge;

mod auth;
mod error;
mod events;
mod extract;
mod fields;
mod idempotency;
mod limits;
mod live;
mod metrics;
mod parts;
mod prompt;
mod ready;
mod resident;
mod routes;
mod state;
mod upkeep;
mod validate;

pub use error::ApiError;
pub use limits::{ApprovalCeiling, Limits};
pub use metrics::Measures;
pub use parts::{Check, Part};
pub use routes::{openapi, router};
pub use state::{Server, ServerConfig};
pub use upkeep::{UpkeepJob, UpkeepPass};
