//! Models behind agent-core's ports: LLM providers, and the offline model that needs none.

mod catalog;
mod known;
mod prices;
mod provider;
mod settings_error;

mod dialect;
mod offline;
mod remote;
mod replay;
mod takes;

mod call_id;
mod estimate;
mod gate;
mod key;

pub use catalog::ProviderModels;
pub use gate::Gates;
pub use key::{KeyError, KeySource};
pub use known::{KNOWN_PROVIDERS, KnownProvider};
pub use offline::{OFFLINE_MODEL, OFFLINE_PROVIDER, OfflineModel};
pub use prices::PRICES_OF;
pub use provider::{ProviderKind, ProviderSettings, Timeouts};
#[doc(hidden)]
pub use remote::is_complete_answer;
pub use settings_error::SettingsError;
