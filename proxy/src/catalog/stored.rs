//! Stored parts of a catalog: what an upstream listed and its handshake, with the time. The owner of the
//! catalog writes them to a database and reads them back.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use protocol::mcp::{Era, MODERN};
use serde::Deserialize;
use tokio::sync::Notify;

use super::{Catalog, ListKind, Listing, Slot};
use crate::pool::PoolKey;
use crate::selected::Selected;
use crate::server::{Launch, ServerSpec};
use crate::upstream::Initialized;

/// Time for which an unchanged list is not stored again.
const STORED_FOR: SignedDuration = SignedDuration::from_mins(5);

/// Age after which the known lists of a remote server are requested again when they are used.
const REMOTE_FOR: SignedDuration = SignedDuration::from_mins(1);

/// Kind of a stored part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    Handshake,
    List(ListKind),
}

impl Part {
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Handshake => "handshake",
            Part::List(kind) => kind.member(),
        }
    }

    pub fn parse(text: &str) -> Option<Part> {
        let lists = ListKind::ALL.into_iter().map(Part::List);
        lists.chain([Part::Handshake]).find(|part| part.as_str() == text)
    }
}

/// One part of the catalog of an upstream that all callers of a tenant share.
#[derive(Clone, Debug)]
pub struct StoredPart {
    pub key: PoolKey,
    pub part: Part,
    /// JSON as the server wrote it: the array of all items, or the result of the handshake.
    pub body: Arc<str>,
    pub listed_at: Timestamp,
}

/// Work for the owner of the catalog: parts to be stored, the newest of each, and servers to be asked.
#[derive(Default)]
pub(super) struct Upkeep {
    parts: Mutex<HashMap<(PoolKey, Part), StoredPart>>,
    added: Notify,
    wanted: Mutex<HashMap<PoolKey, Selected>>,
    asked: Notify,
}

impl Catalog {
    /// Takes the parts that are not stored yet.
    pub fn take_unstored(&self) -> Vec<StoredPart> {
        std::mem::take(&mut *self.upkeep.parts.lock()).into_values().collect()
    }

    /// Waits until there is something to store.
    pub async fn unstored(&self) {
        self.upkeep.added.notified().await;
    }

    /// Asks the owner of the catalog to request the lists of a remote server again, which needs no start.
    pub fn want(&self, selected: &Selected, age: SignedDuration) {
        let is_remote = matches!(selected.spec.launch, Launch::Http(_) | Launch::Websocket(_));
        // The key is that of the last request only as long as the eras are known.
        if is_remote && age > REMOTE_FOR && self.pool.known_eras(&selected.spec).is_some() {
            self.upkeep.wanted.lock().insert(selected.list_key, selected.clone());
            self.upkeep.asked.notify_one();
        }
    }

    /// Waits until lists are wanted.
    pub async fn wanted(&self) {
        self.upkeep.asked.notified().await;
    }

    /// Takes the servers whose lists are wanted.
    pub fn take_wanted(&self) -> Vec<Selected> {
        std::mem::take(&mut *self.upkeep.wanted.lock()).into_values().collect()
    }

    /// Returns the kinds of lists to request after a start: all, of an upstream that clients share; of one
    /// client's, the tools, and those that are known of it or of the shared one.
    pub fn kinds_to_request(&self, key: &PoolKey) -> Vec<ListKind> {
        let shared = PoolKey { owner: 0, ..*key };
        let is_known = |kind| self.last(key, kind).is_some() || self.last(&shared, kind).is_some();
        let is_wanted = |kind: &ListKind| key.owner == 0 || *kind == ListKind::Tools || is_known(*kind);
        ListKind::ALL.into_iter().filter(is_wanted).collect()
    }

    /// Returns true if the server has reported a change or started since a known list was requested.
    pub fn is_outdated(&self, key: &PoolKey) -> bool {
        let lists = ListKind::ALL.into_iter().filter_map(|kind| self.last(key, kind));
        lists.into_iter().any(|listing| !self.is_current(key, &listing))
    }

    /// Returns the shared upstreams that do not run and have a list from before that time, oldest first.
    pub fn idle_since(&self, before: Timestamp) -> Vec<PoolKey> {
        let oldest = |slot: &Slot| {
            let lists = slot.listings.iter().filter_map(|listing| listing.load_full());
            lists.map(|listing| listing.listed_at).min()
        };
        let mut idle: Vec<(Timestamp, PoolKey)> = self
            .slots
            .iter()
            .filter(|slot| slot.key().owner == 0 && slot.key().variant == 0)
            .filter_map(|slot| Some((oldest(slot.value()).filter(|at| *at < before)?, *slot.key())))
            .filter(|(_, key)| !self.pool.is_running(key))
            .collect();
        idle.sort_by_key(|(at, _)| *at);
        idle.into_iter().map(|(_, key)| key).collect()
    }

    /// Takes back parts that could not be stored, for a later attempt.
    pub fn put_back(&self, parts: Vec<StoredPart>) {
        let mut unstored = self.upkeep.parts.lock();
        for part in parts {
            unstored.entry((part.key, part.part)).or_insert(part);
        }
    }

    /// Takes a stored part of a server, unless its upstream runs or a later one is known; returns the list that
    /// changed thereby.
    pub fn restore(&self, spec: &ServerSpec, part: StoredPart) -> Option<ListKind> {
        let slot = self.slot(&part.key);
        // A running upstream is asked itself; its lists may differ from those of another replica's.
        if self.pool.is_running(&part.key) {
            return None;
        }
        let kind = match part.part {
            Part::Handshake => {
                if slot.handshake.load().as_ref().is_none_or(|last| last.at < part.listed_at) {
                    match handshake(part.key.era, &part.body) {
                        Ok(initialized) => slot.greet(Arc::new(initialized), part.listed_at),
                        Err(error) => {
                            tracing::warn!(server = %spec.slug, %error, "a stored handshake cannot be read");
                        }
                    }
                }
                return None;
            }
            Part::List(kind) => kind,
        };
        let last = slot.listings[kind as usize].load_full();
        if last.as_ref().is_some_and(|last| last.listed_at >= part.listed_at) {
            return None;
        }
        match Listing::read(spec, (part.key.era, kind), part.body, part.listed_at) {
            Ok(listing) => {
                let changed = last.is_some_and(|last| last.body != listing.body);
                slot.listings[kind as usize].store(Some(Arc::new(listing)));
                changed.then_some(kind)
            }
            Err(error) => {
                tracing::warn!(server = %spec.slug, %error, "a stored list cannot be read");
                None
            }
        }
    }

    /// Notes a list and its handshake for storing, and reports a list that differs from the one before the
    /// upstream's last start; a change during its run is reported by the server, and once.
    pub(super) fn keep(
        &self,
        slot: &Slot,
        selected: &Selected,
        kind: ListKind,
        initialized: Arc<Initialized>,
        listing: &mut Listing,
    ) {
        let Selected { list_key: key, spec, .. } = selected;
        let before = slot.listings[kind as usize].load_full();
        // The client of an upstream of its own has read the shared one's list before.
        let shared = self.last(&PoolKey { owner: 0, ..*key }, kind).filter(|_| key.owner != 0);
        if key.owner != 0
            && let Some(usual) = shared.as_ref().or(before.as_ref())
            && usual.body != listing.body
        {
            self.pool.set_own_lists(key);
        }
        let before = before.or_else(|| shared.clone());
        if let Some(shared) = &shared {
            self.keep_shared(selected, kind, shared, listing);
        }
        let is_same = before.as_ref().is_some_and(|before| before.body == listing.body);
        if let Some(before) = &before
            && !is_same
            && !listing.has_changed()
            && before.changes >> 32 != listing.changes >> 32
        {
            self.pool.publish(*key, kind.changed());
        }
        let greeted = slot.initialized();
        slot.greet(Arc::clone(&initialized), listing.listed_at);
        // A list that goes on is asked for again, since it is not the whole one.
        if key.owner != 0 || matches!(spec.launch, Launch::Builtin(_)) || listing.note.is_some() {
            return;
        }
        if greeted.is_none_or(|greeted| greeted.result != initialized.result)
            && let Ok(result) = std::str::from_utf8(&initialized.result)
        {
            self.note(key, Part::Handshake, result.into(), listing.listed_at);
        }
        if let Some(before) = before
            && is_same
            && listing.listed_at.duration_since(before.stored_at) < STORED_FOR
        {
            listing.stored_at = before.stored_at;
            return;
        }
        self.note(key, Part::List(kind), Arc::clone(&listing.body), listing.listed_at);
    }

    /// Takes the list of an upstream of one client for that of all clients with its capabilities, since no call
    /// starts an upstream that they share. A list that the server has changed since its start is not taken.
    fn keep_shared(&self, selected: &Selected, kind: ListKind, known: &Listing, listing: &Listing) {
        let key = PoolKey { owner: 0, ..selected.list_key };
        if listing.has_changed() || listing.note.is_some() || self.pool.is_running(&key) {
            return;
        }
        let mut shared = listing.clone();
        (shared.changes, shared.stored_at) = (0, listing.listed_at);
        self.slot(&key).listings[kind as usize].store(Some(Arc::new(shared)));
        self.note(&key, Part::List(kind), Arc::clone(&listing.body), listing.listed_at);
        if known.body != listing.body {
            self.pool.publish(key, kind.changed());
        }
    }

    fn note(&self, key: &PoolKey, part: Part, body: Arc<str>, listed_at: Timestamp) {
        // Marks of launches with values of configs change with each process.
        if key.variant != 0 {
            return;
        }
        self.upkeep.parts.lock().insert((*key, part), StoredPart { key: *key, part, body, listed_at });
        self.upkeep.added.notify_one();
    }
}

/// Reads a stored handshake.
fn handshake(era: Era, result: &str) -> Result<Initialized, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        protocol_version: String,
    }
    let protocol_version = match era {
        Era::Legacy => serde_json::from_str::<Shape>(result)?.protocol_version,
        Era::Modern => MODERN.to_owned(),
    };
    let result = Bytes::copy_from_slice(result.as_bytes());
    Ok(Initialized { era, result, protocol_version, generation: 0 })
}
