//! Removes containers of processes that are gone: a server or a shim that was killed could not.

use std::path::Path;

use super::instance::Gone;
use crate::sandbox::private_home::{Owner, remove_leftovers};

/// Blocks as long as the engine needs. What cannot be removed is tried again the next time.
pub(super) fn reap(directory: &Path) {
    for gone in Gone::all(directory) {
        let removed = gone.engine.labelled(&gone.label()).and_then(|left| {
            if !left.is_empty() {
                gone.engine.remove(&left)?;
            }
            Ok(left.len())
        });
        match removed {
            Ok(containers) => {
                remove_leftovers(Owner::Containers(&gone.id));
                if let Err(error) = gone.forget() {
                    tracing::warn!(%error, "a lock of containers cannot be removed");
                }
                if containers > 0 {
                    tracing::info!(containers, "containers of an earlier process removed");
                }
            }
            Err(error) => tracing::warn!(%error, "containers of an earlier process cannot be removed"),
        }
    }
}
