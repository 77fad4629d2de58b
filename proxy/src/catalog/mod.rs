//! Lists of each MCP server: tools, resources, templates and prompts, kept until the server reports a
//! change. Knows nothing of callers; the policy decides on visibility.

pub mod definition;
mod page;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use memchr::memmem;
use protocol::{Code, Members, Refusal, ServerId, TenantId, names};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::page::Page;
use crate::header_params::{self, HeaderParam};
use crate::message;
use crate::pool::{Pool, PoolKey};
use crate::selected::Selected;
use crate::server::{Launch, ServerSpec};
use crate::splice::{self, Key};
use crate::upstream::{Params, UpstreamAnswer, UpstreamRequest};

/// Most items accepted in one list of one server.
const MAX_ITEMS: usize = 10_000;

/// Most bytes of one list of one server.
const MAX_BYTES: usize = 8 << 20;

/// Most pages of one list of one server.
const MAX_PAGES: usize = 1_000;

/// Most notes about one list.
const MAX_NOTES: usize = 20;

/// Number of upstreams beyond which the lists of stopped ones are forgotten.
const MANY: usize = 4096;

/// One of the four lists of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// One list of one server at one moment.
#[derive(Debug)]
pub struct Listing {
    pub items: Vec<Item>,
    by_tail: HashMap<Box<str>, usize>,
    /// Value of the pool's change counter at the time of the request.
    changes: u64,
    /// Rejected parts of the server's answer, with reasons.
    pub notes: Vec<String>,
}

/// A listed tool, resource, template or prompt.
#[derive(Debug)]
pub struct Item {
    /// The server's own name, URI or URI template.
    pub name: Arc<str>,
    /// Item as the server gave it.
    pub raw: Box<RawValue>,
    /// Item under the name that callers of all servers use: `slug__name` or `slug+uri`.
    pub exposed: Box<str>,
    /// Parameters of a tool that are mirrored into HTTP headers.
    pub mirrored: Vec<HeaderParam>,
}

impl Listing {
    /// Returns the item by the part of the exposed name after the slug.
    pub fn find_exposed(&self, tail: &str) -> Option<&Item> {
        self.by_tail.get(tail).map(|index| &self.items[*index])
    }

    /// Returns the item by the server's own name.
    pub fn find(&self, name: &str) -> Option<&Item> {
        self.find_exposed(name)
            .filter(|item| *item.name == *name)
            .or_else(|| self.items.iter().find(|item| *item.name == *name))
    }
}

impl Listing {
    /// Returns the item by the server's own name, with kebab, snake and spaced form and letter case as one.
    pub fn find_loosely(&self, name: &str) -> Option<&Item> {
        let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
        let wanted = plain(name);
        self.items.iter().find(|item| plain(&item.name) == wanted)
    }
}

/// Lists of all servers that were asked so far.
pub struct Catalog {
    pool: Pool,
    slots: DashMap<PoolKey, Arc<Slot>>,
}

#[derive(Default)]
struct Slot {
    listings: [ArcSwapOption<Listing>; 4],
    fetching: [tokio::sync::Mutex<()>; 4],
}

impl Catalog {
    pub fn new(pool: Pool) -> Self {
        Self { pool, slots: DashMap::new() }
    }

    /// Returns the list if known and up to date.
    pub fn known(&self, key: &PoolKey, kind: ListKind) -> Option<Arc<Listing>> {
        let listing = self.slots.get(key)?.listings[kind as usize].load_full()?;
        (listing.changes == self.pool.changes(key)).then_some(listing)
    }

    /// Returns the list, requested when unknown; one request serves all concurrent callers.
    pub async fn list(
        &self,
        selected: &Selected,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<Arc<Listing>, Refusal> {
        let Selected { list_key: key, spec, .. } = selected;
        if let Some(listing) = self.known(key, kind) {
            return Ok(listing);
        }
        if self.slots.len() >= MANY {
            // These upstreams belong to disconnected clients.
            self.slots.retain(|key, _| self.pool.is_running(key));
        }
        let slot = Arc::clone(&self.slots.entry(*key).or_default());
        let late = || {
            Refusal::new(
                Code::TimedOut,
                format!("server `{}` did not list its {} in time", spec.slug, kind.member()),
            )
        };
        let _turn = tokio::time::timeout_at(deadline.into(), slot.fetching[kind as usize].lock())
            .await
            .map_err(|_| late())?;
        if let Some(listing) = self.known(key, kind) {
            return Ok(listing);
        }
        let listing = Arc::new(self.fetch(key, spec, kind, deadline).await?);
        slot.listings[kind as usize].store(Some(Arc::clone(&listing)));
        Ok(listing)
    }

    /// Forgets a server of a tenant that was deleted or has a new revision.
    pub fn forget(&self, tenant: TenantId, server: ServerId) {
        self.slots.retain(|key, _| (key.tenant, key.server) != (tenant, server));
    }

    /// Forgets the lists of the selected upstream, so that they are requested again.
    pub fn forget_listed(&self, selected: &Selected) {
        self.slots.remove(&selected.list_key);
    }

    async fn fetch(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<Listing, Refusal> {
        let initialized = self.pool.handshake(key, spec, deadline).await?;
        // The counter is read first: a change during the answer makes this list stale at once.
        let changes = self.pool.changes(key);
        let mut listing = Listing { items: Vec::new(), by_tail: HashMap::new(), changes, notes: Vec::new() };
        if !has_capability(&initialized.result, kind.capability()) {
            return Ok(listing);
        }
        let (mut cursor, mut cursors) = (None::<String>, HashSet::new());
        let (mut seen, mut bytes) = (0, 0);
        for _ in 0..MAX_PAGES {
            let page = self.page(key, spec, kind, cursor.as_deref(), deadline).await?;
            let Some(page) = page else { return Ok(listing) };
            for raw in page.items {
                seen += 1;
                bytes += raw.get().len();
                if seen > MAX_ITEMS || bytes > MAX_BYTES {
                    listing.notes.truncate(MAX_NOTES);
                    listing.notes.push(format!(
                        "the list goes on; the first {MAX_ITEMS} {}, or {MAX_BYTES} bytes of them, are taken",
                        kind.member()
                    ));
                    return Ok(listing);
                }
                add(&mut listing, spec, kind, raw);
            }
            match page.next {
                // A repeated cursor leads round in a circle.
                Some(next) if cursors.insert(next.clone()) => cursor = Some(next),
                Some(next) => {
                    listing.notes.push(format!(
                        "the list ends: the cursor `{}` came before",
                        message::excerpt(next.as_bytes())
                    ));
                    break;
                }
                None => break,
            }
        }
        listing.notes.truncate(MAX_NOTES);
        Ok(listing)
    }

    /// Requests one page; none when the server does not know the method although it has the capability.
    async fn page(
        &self,
        key: &PoolKey,
        spec: &Arc<ServerSpec>,
        kind: ListKind,
        cursor: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Page>, Refusal> {
        let cursor = cursor.map(|cursor| ("cursor".to_owned(), cursor.into()));
        let params = self.pool.own_params(key.era, cursor.into_iter().collect());
        let request = UpstreamRequest::new(kind.method(), Params::raw(params.as_bytes()), deadline);
        match self.pool.send(key, spec, request).await?.answer {
            UpstreamAnswer::Result(result) => page::read(&result, kind).map(Some).map_err(|problem| {
                let reason = format!("server `{}` answered {} with {problem}", spec.slug, kind.method());
                Refusal::new(Code::UpstreamFailed, reason)
                    .hint("see the server's own log: GET /v1/mcp/servers/{id}/logs")
            }),
            UpstreamAnswer::Error(error)
                if message::code(&error) == Some(Code::MethodNotFound.rpc().into()) =>
            {
                Ok(None)
            }
            UpstreamAnswer::Error(error) => {
                let said = String::from_utf8_lossy(&error[..error.len().min(300)]).into_owned();
                Err(Refusal::new(
                    Code::UpstreamFailed,
                    format!("server `{}` refused {}: {said}", spec.slug, kind.method()),
                ))
            }
        }
    }
}

fn add(listing: &mut Listing, spec: &ServerSpec, kind: ListKind, raw: Box<RawValue>) {
    let mirrored = match mirrored(kind, &raw) {
        Ok(mirrored) => mirrored,
        // Clients of HTTP must leave out such a tool (2026-07-28, "Custom Headers from Tool Parameters").
        Err(problem) if matches!(spec.launch, Launch::Http(_)) => {
            listing.notes.push(format!("one of the tools was left out: {problem}"));
            return;
        }
        Err(_) => Vec::new(),
    };
    let (name, exposed, tail) = match splice::named(&raw, kind.key()) {
        Ok((name, cut)) => {
            let (exposed, tail) = exposed_name(spec, kind, &name);
            let quoted = serde_json::to_string(&exposed).expect("a string is JSON");
            (name, with_own_page(spec, kind, format!("{}{quoted}{}", cut.head, cut.tail)), tail)
        }
        Err(problem) => {
            listing.notes.push(format!("one of the {} was left out: {problem}", kind.member()));
            return;
        }
    };
    let index = listing.items.len();
    if listing.by_tail.contains_key(tail.as_str()) {
        listing.notes.push(format!("`{name}` is listed twice; the first one counts"));
        return;
    }
    listing.by_tail.insert(tail.into(), index);
    listing.items.push(Item { name: name.into(), raw, exposed: exposed.into(), mirrored });
}

fn mirrored(kind: ListKind, raw: &RawValue) -> Result<Vec<HeaderParam>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tool<'a> {
        #[serde(borrow)]
        input_schema: Option<&'a RawValue>,
    }
    if kind != ListKind::Tools || memmem::find(raw.get().as_bytes(), b"x-mcp-header").is_none() {
        return Ok(Vec::new());
    }
    let tool: Tool<'_> = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    tool.input_schema.map_or(Ok(Vec::new()), header_params::read)
}

/// Replaces the page that shows a tool (`_meta.ui.resourceUri`, extension `io.modelcontextprotocol/ui`) by
/// the page's exposed name.
fn with_own_page(spec: &ServerSpec, kind: ListKind, item: String) -> String {
    if kind != ListKind::Tools || memmem::find(item.as_bytes(), br#""ui://"#).is_none() {
        return item;
    }
    let renamed = |page: Option<&RawValue>| -> Option<Box<RawValue>> {
        let page: String = serde_json::from_str(page?.get()).ok()?;
        let page = page.starts_with(names::UI).then(|| names::exposed_resource(&spec.slug, &page))?;
        serde_json::value::to_raw_value(&page).ok()
    };
    let edited = || -> Option<String> {
        let mut tool = Members::read(&item).ok()?;
        let about = tool.get("_meta")?.to_owned();
        let mut about = Members::read(about.get()).ok()?;
        if let Some(page) = renamed(about.get("ui/resourceUri")) {
            about.set("ui/resourceUri", page);
        }
        let ui = about.get("ui").map(ToOwned::to_owned);
        if let Some(Ok(mut ui)) = ui.as_deref().map(|ui| Members::read(ui.get()))
            && let Some(page) = renamed(ui.get("resourceUri"))
        {
            ui.set("resourceUri", page);
            about.set("ui", ui.to_raw());
        }
        let about = about.to_raw();
        tool.set("_meta", about);
        Some(tool.write())
    };
    edited().unwrap_or(item)
}

/// Returns the exposed name and its part after the slug.
fn exposed_name(spec: &ServerSpec, kind: ListKind, name: &str) -> (String, String) {
    match kind {
        ListKind::Tools | ListKind::Prompts => {
            let tail = names::exposed_tail(&spec.slug, name);
            (format!("{}{}{tail}", spec.slug, names::SEPARATOR), tail)
        }
        ListKind::Resources | ListKind::ResourceTemplates => {
            (names::exposed_resource(&spec.slug, name), name.to_owned())
        }
    }
}

fn has_capability(initialize: &[u8], capability: &str) -> bool {
    #[derive(Deserialize)]
    struct Initialize<'a> {
        #[serde(borrow)]
        capabilities: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
    }
    serde_json::from_slice::<Initialize<'_>>(initialize)
        .ok()
        .and_then(|initialize| initialize.capabilities)
        .is_some_and(|capabilities| capabilities.get(capability).is_some_and(|value| value.get() != "null"))
}
