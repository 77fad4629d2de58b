//! Exclusive slots: upstreams that serve one call at a time, because requests of a legacy server to a modern
//! client do not name their call. A caller has a few such upstreams, which are reused; once one of them has
//! changed its lists, the caller has that one only, since tools that a call added are nowhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use protocol::{Code, Refusal};
use tokio::sync::Notify;

use super::client::hash;
use crate::pool::{Pool, PoolKey};

/// Most upstreams of one server for one caller.
const LANES: usize = 4;

#[derive(Clone, Default)]
pub struct ExclusiveSlots(Arc<Inner>);

#[derive(Default)]
struct Inner {
    busy: Mutex<HashMap<PoolKey, [bool; LANES]>>,
    freed: Notify,
}

/// Guard of an upstream that serves one call.
pub struct Slot {
    slots: ExclusiveSlots,
    base: PoolKey,
    number: usize,
    pub key: PoolKey,
}

impl ExclusiveSlots {
    /// Waits for a free slot until the deadline.
    pub async fn take(&self, base: PoolKey, pool: &Pool, deadline: Instant) -> Result<Slot, Refusal> {
        loop {
            let freed = self.0.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if let Some(slot) = self.try_take(base, changed(base, pool)) {
                return Ok(slot);
            }
            tokio::time::timeout_at(deadline.into(), freed).await.map_err(|_| {
                let reason = "all upstreams of this client are busy with calls that may ask it something";
                Refusal::new(Code::ConcurrencyLimited, reason)
                    .rule("calls that may ask back, per caller and server")
                    .hint("answer the open questions first, or declare no capabilities for calls that need none")
            })?;
        }
    }

    fn try_take(&self, base: PoolKey, only: Option<usize>) -> Option<Slot> {
        let mut busy = self.0.busy.lock();
        let slots = busy.entry(base).or_default();
        let free = |number: &usize| !slots[*number] && only.is_none_or(|only| only == *number);
        let number = (0..LANES).find(free)?;
        slots[number] = true;
        Some(Slot { slots: self.clone(), base, number, key: lane(base, number) })
    }
}

/// Returns the upstream whose lists a caller sees: the one that has changed its lists, else the first one.
pub fn listed(base: PoolKey, pool: &Pool) -> Option<PoolKey> {
    let key = lane(base, changed(base, pool).unwrap_or(0));
    pool.is_running(&key).then_some(key)
}

fn changed(base: PoolKey, pool: &Pool) -> Option<usize> {
    (0..LANES).find(|number| pool.has_changed(&lane(base, *number)))
}

/// Returns one of the upstreams of a caller.
pub fn lane(base: PoolKey, number: usize) -> PoolKey {
    PoolKey { owner: owner(base.owner, number), ..base }
}

fn owner(caller: u64, number: usize) -> u64 {
    hash(&(caller, number))
}

/// Returns true if an upstream of that owner is one of this caller's slots.
pub fn is_slot_of(slot: u64, caller: u64) -> bool {
    (0..LANES).any(|number| owner(caller, number) == slot)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut busy = self.slots.0.busy.lock();
        if let Some(slots) = busy.get_mut(&self.base) {
            slots[self.number] = false;
            if slots.iter().all(|busy| !busy) {
                busy.remove(&self.base);
            }
        }
        drop(busy);
        self.slots.0.freed.notify_waiters();
    }
}
