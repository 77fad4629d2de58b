//! Request of a list from its server, page by page.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::page::{self, Page};
use super::{Catalog, ListKind, Listing};
use crate::message;
use crate::selected::Selected;
use crate::upstream::{Initialized, Params, UpstreamAnswer, UpstreamRequest};

/// Most items accepted in one list of one server.
const MAX_ITEMS: usize = 10_000;

/// Most bytes of one list of one server.
const MAX_BYTES: usize = 8 << 20;

/// Most pages of one list of one server.
const MAX_PAGES: usize = 1_000;

impl Catalog {
    /// Requests the whole list; returns it with the handshake of the upstream that answered.
    pub(super) async fn fetch(
        &self,
        selected: &Selected,
        kind: ListKind,
        deadline: Instant,
    ) -> Result<(Arc<Initialized>, Listing), Refusal> {
        let Selected { list_key: key, spec, .. } = selected;
        let initialized = self.pool.initialized(selected, deadline).await?;
        // The counter is read first: a change during the answer makes this list stale at once.
        let changes = self.pool.changes(key);
        let listed_at = Timestamp::now();
        let mut body = "[".to_owned();
        let note = match has_capability(&initialized.result, kind.capability()) {
            true => self.pages(selected, kind, &mut body, deadline).await?,
            false => None,
        };
        body.push(']');
        let mut listing = Listing::read(spec, (key.era, kind), body.into(), listed_at).map_err(|error| {
            let reason = format!("the {} of `{}` cannot be read: {error}", kind.member(), spec.slug);
            Refusal::new(Code::UpstreamFailed, reason)
        })?;
        listing.changes = changes;
        listing.note = note;
        Ok((initialized, listing))
    }

    /// Appends the items of all pages; returns a note if the list does not end properly.
    async fn pages(
        &self,
        selected: &Selected,
        kind: ListKind,
        body: &mut String,
        deadline: Instant,
    ) -> Result<Option<String>, Refusal> {
        let (mut cursor, mut cursors) = (None::<String>, HashSet::new());
        let (mut count, mut bytes) = (0, 0);
        for _ in 0..MAX_PAGES {
            let Some(page) = self.page(selected, kind, cursor.as_deref(), deadline).await? else {
                return Ok(None);
            };
            for raw in page.items {
                count += 1;
                bytes += raw.get().len();
                if count > MAX_ITEMS || bytes > MAX_BYTES {
                    return Ok(Some(format!(
                        "the list goes on; the first {MAX_ITEMS} {}, or {MAX_BYTES} bytes of them, are taken",
                        kind.member()
                    )));
                }
                if count > 1 {
                    body.push(',');
                }
                body.push_str(raw.get());
            }
            match page.next {
                // A repeated cursor leads round in a circle.
                Some(next) if !cursors.insert(next.clone()) => {
                    let shown = message::excerpt(next.as_bytes());
                    return Ok(Some(format!("the list ends: the cursor `{shown}` came before")));
                }
                Some(next) => cursor = Some(next),
                None => return Ok(None),
            }
        }
        Ok(Some(format!("the list goes on after {MAX_PAGES} pages")))
    }

    /// Requests one page; none when the server does not know the method although it has the capability.
    async fn page(
        &self,
        selected: &Selected,
        kind: ListKind,
        cursor: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Page>, Refusal> {
        let Selected { list_key: key, spec, is_use, .. } = selected;
        let cursor = cursor.map(|cursor| ("cursor".to_owned(), cursor.into()));
        let params = self.pool.own_params(key.era, cursor.into_iter().collect());
        let request = UpstreamRequest {
            is_use: *is_use,
            ..UpstreamRequest::new(kind.method(), Params::raw(params.as_bytes()), deadline)
        };
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

/// Returns whether a handshake declares the capability. One that cannot be read declares everything, so that
/// the server is asked and nothing is silently empty.
pub fn has_capability(initialize: &[u8], capability: &str) -> bool {
    #[derive(Deserialize)]
    struct Initialize<'a> {
        #[serde(borrow)]
        capabilities: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
    }
    let Ok(Initialize { capabilities }) = serde_json::from_slice(initialize) else { return true };
    let declared = capabilities.as_ref().and_then(|capabilities| capabilities.get(capability));
    declared.is_some_and(|value| value.get() != "null")
}
