//! Names to the addresses that may be reached.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The name leads nowhere that may be reached.
#[derive(Debug, thiserror::Error)]
#[error("no address of {0} may be reached")]
pub(super) struct NotPublic(String);

#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    pub(super) may_reach: fn(IpAddr) -> bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let may_reach = self.may_reach;
        Box::pin(async move {
            // The port is the caller's affair.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let reachable: Vec<SocketAddr> = found.filter(|address| may_reach(address.ip())).collect();
            if reachable.is_empty() {
                return Err(NotPublic(name.as_str().to_owned()).into());
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}
