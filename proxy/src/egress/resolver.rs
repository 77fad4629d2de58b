//! Names to addresses, without those the guard refuses. The connection is made to what this gives and
//! to nothing else, so that a name cannot be one thing when checked and another when connected to.

use std::io;

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
            let host = name.as_str();
            // Port 0 means: the port of the URL.
            let found = tokio::net::lookup_host((host, 0)).await?;
            let (mut open, mut refused) = (Vec::new(), None);
            for address in found {
                match guard.check(host, address.ip()) {
                    Ok(()) => open.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if open.is_empty() => Err(error.into()),
                _ if open.is_empty() => Err(no_address(host).into()),
                _ => Ok(Box::new(open.into_iter()) as Addrs),
            }
        })
    }
}

fn no_address(host: &str) -> EgressError {
    let reason = io::Error::from(io::ErrorKind::NotFound).to_string();
    EgressError::Unreachable { host: host.to_owned(), reason }
}
