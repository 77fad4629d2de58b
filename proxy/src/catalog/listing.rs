//! One list of one server: items under the server's own names and under those that callers of all servers
//! use.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use memchr::memmem;
use protocol::mcp::Era;
use protocol::{Members, names};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ListKind;
use super::definition::{self, LeftOut, Warning};
use crate::header_params::{self, HeaderParam};
use crate::server::{Launch, ServerSpec};
use crate::splice;

/// Most items of one list that are named as left out.
const MAX_LEFT_OUT: usize = 50;

/// One list of one server at one moment.
#[derive(Clone, Debug)]
pub struct Listing {
    pub items: Vec<Item>,
    by_tail: HashMap<Box<str>, usize>,
    /// JSON array of all items as the server wrote them, those that were left out included.
    pub body: Arc<str>,
    /// Value of the pool's change counter at the time of the request; 0 for a list from the store.
    pub(super) changes: u64,
    pub listed_at: Timestamp,
    /// Time of the request that was stored last.
    pub(super) stored_at: Timestamp,
    /// Era of the server, and kind of the list.
    of: (Era, ListKind),
    /// Items that are not shown to callers of all servers: the first ones, and the number of the others.
    pub left_out: Vec<LeftOut>,
    /// Reason why the list is not the server's whole list.
    pub note: Option<String>,
}

/// Returns a name in the form in which kebab, snake and spaced form and letter case are one.
pub fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// A listed tool, resource, template or prompt.
#[derive(Clone, Debug)]
pub struct Item {
    /// The server's own name, URI or URI template.
    pub name: Arc<str>,
    /// Place of the item in the body of its list.
    raw: Range<usize>,
    /// Item under the name that callers of all servers use: `slug__name` or `slug+uri`.
    pub exposed: Box<str>,
    /// Parameters of a tool that are mirrored into HTTP headers.
    pub mirrored: Vec<HeaderParam>,
}

impl Listing {
    /// Returns the list of a server that has no items.
    pub(super) fn empty(era: Era, kind: ListKind, listed_at: Timestamp) -> Self {
        Listing {
            items: Vec::new(),
            by_tail: HashMap::new(),
            body: "[]".into(),
            changes: 0,
            listed_at,
            stored_at: listed_at,
            of: (era, kind),
            left_out: Vec::new(),
            note: None,
        }
    }

    /// Reads a JSON array of items of a server of that era.
    pub(super) fn read(
        spec: &ServerSpec,
        of: (Era, ListKind),
        body: Arc<str>,
        listed_at: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        let raws: Vec<&RawValue> = serde_json::from_str(&body)?;
        let mut listing = Listing { body: Arc::clone(&body), ..Self::empty(of.0, of.1, listed_at) };
        let mut more = 0;
        for raw in raws {
            match listing.add(spec, raw) {
                Err(left_out) if listing.left_out.len() < MAX_LEFT_OUT => listing.left_out.push(left_out),
                Err(_) => more += 1,
                Ok(()) => {}
            }
        }
        if more > 0 {
            let reason = format!("{more} more {} are left out", of.1.member());
            listing.left_out.push(LeftOut { name: None, reason });
        }
        Ok(listing)
    }

    /// Returns true if the server has reported a change of this list between its start and the request.
    pub(super) fn has_changed(&self) -> bool {
        self.changes & self.of.1.changed().list_bit() != 0
    }

    /// Returns true if the server lists nothing, not even what is left out.
    pub fn is_empty(&self) -> bool {
        self.body.trim_ascii().len() == 2
    }

    /// Returns the era of the server.
    pub fn era(&self) -> Era {
        self.of.0
    }

    /// Returns the item as the server wrote it.
    pub fn raw(&self, item: &Item) -> &str {
        &self.body[item.raw.clone()]
    }

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

    /// Returns the item by the server's own name, with kebab, snake and spaced form and letter case as one.
    pub fn find_loosely(&self, name: &str) -> Option<&Item> {
        let wanted = plain(name);
        self.items.iter().find(|item| plain(&item.name) == wanted)
    }

    /// Returns what is unusual about the items that are shown: the name of the item, and the warning.
    pub fn warnings(&self) -> Vec<(&str, Warning)> {
        let (era, kind) = self.of;
        let warnings = |item| {
            let raw = serde_json::from_str(self.raw(item)).expect("an item was read from the body");
            definition::warnings(kind, era, raw)
        };
        let of_item = |item| warnings(item).into_iter().map(|warning| (&*item.name, warning));
        self.items.iter().flat_map(of_item).collect()
    }

    fn add(&mut self, spec: &ServerSpec, raw: &RawValue) -> Result<(), LeftOut> {
        let (era, kind) = self.of;
        let repaired = definition::examine(kind, era, raw)?;
        let shown = match &repaired {
            Some(repaired) => serde_json::from_str(repaired).expect("a repaired definition is JSON"),
            None => raw,
        };
        let nameless = |reason| LeftOut { name: None, reason };
        let (name, cut) = splice::named(shown, kind.key()).map_err(nameless)?;
        let left_out = |reason: String| LeftOut { name: Some(name.clone()), reason };
        let mirrored = match mirrored(kind, shown) {
            Ok(mirrored) => mirrored,
            // Clients of HTTP must leave out such a tool (2026-07-28, "Custom Headers from Tool Parameters").
            Err(problem) if matches!(spec.launch, Launch::Http(_)) => return Err(left_out(problem)),
            Err(_) => Vec::new(),
        };
        let (exposed, tail) = exposed_name(spec, kind, &name);
        if self.by_tail.contains_key(tail.as_str()) {
            return Err(left_out("it is listed twice; the first one counts".to_owned()));
        }
        let quoted = serde_json::to_string(&exposed).expect("a string is JSON");
        let exposed = with_own_page(spec, kind, format!("{}{quoted}{}", cut.head, cut.tail)).into();
        let start = raw.get().as_ptr() as usize - self.body.as_ptr() as usize;
        self.by_tail.insert(tail.into(), self.items.len());
        self.items.push(Item { name: name.into(), raw: start..start + raw.get().len(), exposed, mirrored });
        Ok(())
    }
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
