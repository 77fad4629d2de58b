//! Exclusive slots: upstreams that serve one call at a time, because requests of a legacy server to a modern
//! client do not name their call. A caller has a few such upstreams, which are reused; once one of them has
//! lists of its own, calls wait for that one, since tools that a call added are nowhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Slots in use, with the flag of each call that is true while the call waits for its client.
    busy: Mutex<HashMap<PoolKey, [Option<Arc<AtomicBool>>; LANES]>>,
    freed: Notify,
}

/// Guard of an upstream that serves one call.
pub struct Slot {
    slots: ExclusiveSlots,
    base: PoolKey,
    number: usize,
    pub key: PoolKey,
    asking: Arc<AtomicBool>,
}

/// Mark of a call that waits for its client. Setting it after the end of the call has no effect.
pub struct AskingMark {
    slots: ExclusiveSlots,
    asking: Arc<AtomicBool>,
}

impl AskingMark {
    pub fn set(&self, asking: bool) {
        self.asking.store(asking, Ordering::Relaxed);
        self.slots.0.freed.notify_waiters();
    }
}

impl ExclusiveSlots {
    /// Waits for a free slot until the deadline.
    pub async fn take(&self, base: PoolKey, pool: &Pool, deadline: Instant) -> Result<Slot, Refusal> {
        loop {
            let freed = self.0.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            let own = (0..LANES).find(|number| pool.has_own_lists(&lane(base, *number)));
            if let Some(slot) = self.try_take(base, own) {
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

    /// Takes a free slot: the one with lists of its own, if there is one that does not wait for a client.
    fn try_take(&self, base: PoolKey, own: Option<usize>) -> Option<Slot> {
        let mut busy = self.0.busy.lock();
        let slots = busy.entry(base).or_default();
        let is_asking = |slot: &Option<Arc<AtomicBool>>| {
            slot.as_ref().is_some_and(|asking| asking.load(Ordering::Relaxed))
        };
        let own = own.filter(|own| !is_asking(&slots[*own]));
        let is_free = |number: &usize| slots[*number].is_none() && own.is_none_or(|own| own == *number);
        let number = (0..LANES).find(is_free)?;
        let asking = Arc::new(AtomicBool::new(false));
        slots[number] = Some(Arc::clone(&asking));
        Some(Slot { slots: self.clone(), base, number, key: lane(base, number), asking })
    }
}

/// Returns the upstream whose lists a caller sees: the one with lists of its own, else one that has reported
/// a change, else the first one.
pub fn listed(base: PoolKey, pool: &Pool) -> Option<PoolKey> {
    let lanes = || (0..LANES).map(|number| lane(base, number));
    let own = lanes().find(|key| pool.has_own_lists(key));
    let key = own.or_else(|| lanes().find(|key| pool.has_changed(key))).unwrap_or(lane(base, 0));
    pool.is_running(&key).then_some(key)
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

impl Slot {
    pub fn asking_mark(&self) -> AskingMark {
        AskingMark { slots: self.slots.clone(), asking: Arc::clone(&self.asking) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut busy = self.slots.0.busy.lock();
        if let Some(slots) = busy.get_mut(&self.base) {
            slots[self.number] = None;
            if slots.iter().all(Option::is_none) {
                busy.remove(&self.base);
            }
        }
        drop(busy);
        self.slots.0.freed.notify_waiters();
    }
}
