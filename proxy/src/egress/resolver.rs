//! DNS resolver that leaves out refused addresses. A connection goes only to the addresses returned here,
//! so that a name cannot change between check and connection.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::EgressError;
use super::address::Guard;

pub(super) struct GuardedResolver {
    guard: Guard,
}

impl GuardedResolver {
    pub fn new(guard: Guard) -> Self {
        Self { guard }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            // Port 0 stands for the port of the URL.
            let found = resolve(Some(&guard), name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Returns the permitted addresses of a host; never none.
pub(super) async fn resolve(
    guard: Option<&Guard>,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, EgressError> {
    let failed =
        |error: io::Error| EgressError::Unreachable { host: host.to_owned(), reason: error.to_string() };
    let (mut open, mut refused) = (Vec::new(), None);
    for address in tokio::net::lookup_host((host, port)).await.map_err(failed)? {
        match guard.map_or(Ok(()), |guard| guard.check(host, address.ip())) {
            Ok(()) => open.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if open.is_empty() => Err(error),
        _ if open.is_empty() => Err(no_address(host)),
        _ => Ok(open),
    }
}

fn no_address(host: &str) -> EgressError {
    let reason = io::Error::from(io::ErrorKind::NotFound).to_string();
    EgressError::Unreachable { host: host.to_owned(), reason }
}
