//! Lists of each MCP server: tools, resources, templates and prompts, kept until the server reports a
//! change, and stored, so that the lists of a server that does not run are known. Knows nothing of callers;
//! the policy decides on visibility.

pub mod definition;
mod fetch;
mod listing;
mod page;
mod stored;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use jiff::{SignedDuration, Timestamp};
use protocol::mcp::Era;
use protocol::{Code, Refusal, ServerId, TenantId};

use crate::bridge::Abilities;
use crate::pool::{Pool, PoolKey, UpstreamEvent};
use crate::selected::Selected;
use crate::server::Launch;
use crate::splice::Key;
use crate::upstream::Initialized;

pub use listing::{Item, Listing, plain};
pub use stored::{Part, StoredPart};

use stored::Upkeep;

/// Number of upstreams beyond which the lists of those of disconnected clients are forgotten.
const MANY: usize = 4096;

/// One of the four lists of a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ListKind {
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
}

impl ListKind {
    pub const ALL: [ListKind; 4] =
        [ListKind::Tools, ListKind::Resources, ListKind::ResourceTemplates, ListKind::Prompts];

    pub fn method(self) -> &'static str {
        use protocol::mcp::method;
        match self {
            ListKind::Tools => method::TOOLS_LIST,
            ListKind::Resources => method::RESOURCES_LIST,
            ListKind::ResourceTemplates => method::RESOURCE_TEMPLATES_LIST,
            ListKind::Prompts => method::PROMPTS_LIST,
        }
    }

    /// Returns the member of the result that holds the items.
    pub fn member(self) -> &'static str {
        match self {
            ListKind::Tools => "tools",
            ListKind::Resources => "resources",
            ListKind::ResourceTemplates => "resourceTemplates",
            ListKind::Prompts => "prompts",
        }
    }

    /// Returns the event of a change of this list.
    const fn changed(self) -> UpstreamEvent {
        match self {
            ListKind::Tools => UpstreamEvent::ToolsChanged,
            ListKind::Resources | ListKind::ResourceTemplates => UpstreamEvent::ResourcesChanged,
            ListKind::Prompts => UpstreamEvent::PromptsChanged,
        }
    }

    fn key(self) -> Key {
        match self {
            ListKind::Tools | ListKind::Prompts => Key::Name,
            ListKind::Resources => Key::Uri,
            ListKind::ResourceTemplates => Key::UriTemplate,
        }
    }

    /// Returns the capability that a server needs to be asked for this list.
    fn capability(self) -> &'static str {
        match self {
            ListKind::Tools => "tools",
            ListKind::Resources | ListKind::ResourceTemplates => "resources",
            ListKind::Prompts => "prompts",
        }
    }
}

/// Lists of all servers that were asked so far, or are stored.
pub struct Catalog {
    pool: Pool,
    slots: DashMap<PoolKey, Arc<Slot>>,
    upkeep: Upkeep,
}

#[derive(Default)]
struct Slot {
    listings: [ArcSwapOption<Listing>; 4],
    handshake: ArcSwapOption<Handshake>,
    fetching: [tokio::sync::Mutex<()>; 4],
}

/// Returns the defect of a server that answers but lists nothing, as far as its lists are known.
fn defect(slot: &Slot, initialized: &Initialized) -> Option<&'static str> {
    let is_empty = |kind| slot.listing(kind, initialized.era).map(|listing| listing.is_empty());
    if ListKind::ALL.into_iter().all(|kind| is_empty(kind) == Some(true)) {
        return Some("it answers, but lists no tools, resources or prompts");
    }
    let declares_tools = fetch::has_capability(&initialized.result, ListKind::Tools.capability());
    (declares_tools && is_empty(ListKind::Tools) == Some(true))
        .then_some("it declares `tools`, but lists none")
}

/// The last known handshake of an upstream.
struct Handshake {
    initialized: Arc<Initialized>,
    at: Timestamp,
}

impl Slot {
    /// Returns the last list; an empty one if the last handshake says that the server has no such list.
    fn listing(&self, kind: ListKind, era: Era) -> Option<Arc<Listing>> {
        let listing = self.listings[kind as usize].load_full();
        listing.or_else(|| {
            let handshake = self.handshake.load_full()?;
            let has = fetch::has_capability(&handshake.initialized.result, kind.capability());
            (!has).then(|| Arc::new(Listing::empty(era, kind, handshake.at)))
        })
    }

    fn initialized(&self) -> Option<Arc<Initialized>> {
        Some(Arc::clone(&self.handshake.load_full()?.initialized))
    }

    fn greet(&self, initialized: Arc<Initialized>, at: Timestamp) {
        self.handshake.store(Some(Arc::new(Handshake { initialized, at })));
    }
}

impl Catalog {
    pub fn new(pool: Pool) -> Self {
        Self { pool, slots: DashMap::new(), upkeep: Upkeep::default() }
    }

    /// Returns the list as far as it is known without a request: one that is up to date, or the last one of
    /// an upstream that does not run, from the store if need be.
    pub fn known(&self, key: &PoolKey, kind: ListKind) -> Option<Arc<Listing>> {
        if self.pool.is_running(key) {
            return self.last(key, kind).filter(|listing| self.is_current(key, listing));
        }
        let own = self.slots.get(key).and_then(|slot| slot.listing(kind, key.era));
        own.or_else(|| self.of_other_era(key)?.listing(kind, key.era))
            .or_else(|| self.of_any_client(key, kind))
    }

    /// Returns the list as far as it is known, also an outdated one of a server that runs.
    pub fn known_or_last(&self, key: &PoolKey, kind: ListKind) -> Option<Arc<Listing>> {
        self.known(key, kind).or_else(|| self.last(key, kind))
    }

    /// Returns the last list, however old it is.
    pub fn last(&self, key: &PoolKey, kind: ListKind) -> Option<Arc<Listing>> {
        self.slots.get(key)?.listings[kind as usize].load_full()
    }

    /// Returns true if the server still runs, and has reported no change and no start since the request.
    pub fn is_current(&self, key: &PoolKey, listing: &Listing) -> bool {
        listing.changes != 0 && self.pool.changes_of_running(key) == Some(listing.changes)
    }

    /// Returns the time since the request if the list is of a server that does not run.
    pub fn age(&self, selected: &Selected, listing: &Listing) -> Option<SignedDuration> {
        let is_builtin = matches!(selected.spec.launch, Launch::Builtin(_));
        (!self.is_current(&selected.list_key, listing) && !is_builtin)
            .then(|| Timestamp::now().duration_since(listing.listed_at).max(SignedDuration::ZERO))
    }

    /// Returns the list, requested when unknown; one request serves all concurrent callers.
    pub async fn list(
        &self,
        selected: &Selected,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<Arc<Listing>, Refusal> {
        match self.known(&selected.list_key, kind) {
            Some(listing) => Ok(listing),
            None => self.current(selected, kind, deadline).await,
        }
    }

    /// Returns an up-to-date list; starts the server if it does not run.
    pub async fn current(
        &self,
        selected: &Selected,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<Arc<Listing>, Refusal> {
        let key = &selected.list_key;
        let up_to_date = || self.last(key, kind).filter(|listing| self.is_current(key, listing));
        match up_to_date() {
            Some(listing) => Ok(listing),
            None => self.requested_unless(selected, kind, deadline, up_to_date).await,
        }
    }

    /// Requests the list, also if it is known.
    pub async fn requested(
        &self,
        selected: &Selected,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<Arc<Listing>, Refusal> {
        self.requested_unless(selected, kind, deadline, || None).await
    }

    /// Requests the list, unless the caller before has made a request needless.
    async fn requested_unless(
        &self,
        selected: &Selected,
        kind: ListKind,
        deadline: Instant,
        known: impl Fn() -> Option<Arc<Listing>>,
    ) -> Result<Arc<Listing>, Refusal> {
        let Selected { list_key: key, spec, .. } = selected;
        let slot = self.slot(key);
        let turn = tokio::time::timeout_at(deadline.into(), slot.fetching[kind as usize].lock()).await;
        let _turn = turn.map_err(|_| {
            let reason = format!("server `{}` did not list its {} in time", spec.slug, kind.member());
            Refusal::new(Code::TimedOut, reason)
        })?;
        if let Some(listing) = known() {
            return Ok(listing);
        }
        let (initialized, mut listing) = self.fetch(selected, kind, deadline).await?;
        self.keep(&slot, selected, kind, Arc::clone(&initialized), &mut listing);
        let listing = Arc::new(listing);
        slot.listings[kind as usize].store(Some(Arc::clone(&listing)));
        self.pool.note_lists(key, defect(&slot, &initialized));
        Ok(listing)
    }

    /// Returns the last handshake of an upstream that does not run.
    pub fn known_handshake(&self, selected: &Selected) -> Option<Arc<Initialized>> {
        let key = &selected.list_key;
        if self.pool.is_running(key) {
            return None;
        }
        let own = self.slots.get(key).and_then(|slot| slot.initialized());
        own.or_else(|| self.of_other_era(key)?.initialized())
    }

    /// Forgets the lists of a server but for those of the present revision with these marks.
    pub fn forget(&self, tenant: TenantId, server: ServerId, present: Option<(i32, &HashSet<u64>)>) {
        let is_kept = |key: &PoolKey| {
            present.is_some_and(|(revision, variants)| {
                key.revision == revision && variants.contains(&key.variant)
            })
        };
        let is_old = |key: &PoolKey| (key.tenant, key.server) == (tenant, server) && !is_kept(key);
        self.slots.retain(|key, _| !is_old(key));
    }

    fn slot(&self, key: &PoolKey) -> Arc<Slot> {
        if key.owner != 0 && self.slots.len() >= MANY && !self.slots.contains_key(key) {
            self.slots.retain(|key, _| key.owner == 0 || self.pool.is_running(key));
        }
        Arc::clone(&self.slots.entry(*key).or_default())
    }

    /// Returns the list that the server gave all clients alike, whatever their capabilities, if there were at
    /// least two kinds of them. Some servers list tools by capabilities, so one kind says nothing of another.
    fn of_any_client(&self, key: &PoolKey, kind: ListKind) -> Option<Arc<Listing>> {
        let keys = (0..=Abilities::ALL).map(|declared| PoolKey { declared, owner: 0, ..*key });
        let mut lists = keys.filter_map(|key| self.last(&key, kind));
        let (first, second) = (lists.next()?, lists.next()?);
        let is_alike = |list: &Arc<Listing>| list.body == first.body;
        (is_alike(&second) && lists.all(|list| is_alike(&list))).then_some(first)
    }

    /// Returns the lists that the server gave in the other era, which are shown while its eras are not known.
    fn of_other_era(&self, key: &PoolKey) -> Option<Arc<Slot>> {
        let era = if key.era == Era::Legacy { Era::Modern } else { Era::Legacy };
        let other = PoolKey { era, declared: 0, owner: 0, ..*key };
        // In the modern era each request declares the client's capabilities.
        let is_alike = era == Era::Modern || key.declared == 0;
        is_alike.then(|| self.slots.get(&other).map(|slot| Arc::clone(&slot))).flatten()
    }
}
