//! Quota of open streams: each holds a connection for as long as its client likes, so one caller, and one
//! tenant, has half of all connections at most.

use std::sync::Arc;

use dashmap::DashMap;
use protocol::{Caller, Code, Refusal};

pub struct StreamQuota {
    most: usize,
    open: DashMap<Box<str>, usize>,
}

/// Permit of an open stream, until it is dropped.
pub struct StreamPermit {
    streams: Arc<StreamQuota>,
    of: [Box<str>; 2],
}

impl StreamQuota {
    /// Returns a quota for a listener of so many `connections`.
    pub fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self { most: (connections / 2).max(1), open: DashMap::new() })
    }

    /// Takes a permit for one more stream of this caller.
    pub fn open(self: &Arc<Self>, caller: &Caller) -> Result<StreamPermit, Refusal> {
        let tenant = caller.tenant.to_string();
        let of: [Box<str>; 2] = [format!("{tenant} {}", caller.principal()).into(), tenant.into()];
        for (index, whose) in of.iter().enumerate() {
            let mut count = self.open.entry(whose.clone()).or_default();
            if *count >= self.most {
                drop(count);
                of[..index].iter().for_each(|whose| self.close(whose));
                let reason = format!("{} streams are open already", self.most);
                return Err(Refusal::new(Code::ConcurrencyLimited, reason)
                    .rule("open streams per caller and per tenant: half of all connections")
                    .hint("close the streams that are not needed"));
            }
            *count += 1;
        }
        Ok(StreamPermit { streams: Arc::clone(self), of })
    }

    fn close(&self, whose: &str) {
        if let Some(mut count) = self.open.get_mut(whose) {
            *count -= 1;
        }
        self.open.remove_if(whose, |_, count| *count == 0);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.of.iter().for_each(|whose| self.streams.close(whose));
    }
}

#[cfg(test)]
mod tests {
    use protocol::{CallerKind, Scopes, TenantId};

    use super::*;

    #[test]
    fn half_is_the_most() {
        let caller = Caller {
            tenant: TenantId::new(),
            tenant_slug: "t".into(),
            agent: None,
            agent_slug: None,
            own_agent: false,
            credential: None,
            kind: CallerKind::Loopback,
            scopes: Scopes::default(),
        };
        let streams = StreamQuota::new(4);
        let first = streams.open(&caller).unwrap();
        let _second = streams.open(&caller).unwrap();
        assert!(streams.open(&caller).is_err());
        drop(first);
        assert!(streams.open(&caller).is_ok());
        assert_eq!(streams.open.len(), 2);
    }
}
