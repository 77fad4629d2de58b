//! Client of another registry that serves the official Registry API (`GET /v0.1/servers`), bounded in pages, bytes and
//! time.

use std::time::Duration;

use proxy::egress::{Egress, EgressError, Url};
use serde::Deserialize;
use serde_json::Value;

/// Most pages of one import.
const MAX_PAGES: usize = 500;
/// Most bytes of one page.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// Time limit of one page; that of the whole import is [`MAX_TIME`].
const PAGE_TIME: Duration = Duration::from_secs(20);
/// Time after which no further page is requested.
pub const MAX_TIME: Duration = Duration::from_secs(120);
/// Entries that are asked for at once.
const LIMIT: &str = "100";

/// Reader of the pages of a registry.
pub struct Pages<'a> {
    egress: &'a Egress,
    /// The list's address, without a query.
    list: Url,
    next: Next,
    read: usize,
}

enum Next {
    First,
    After(String),
    /// The cursor of the page that it came with.
    Circle,
    End,
}

#[derive(Deserialize)]
struct Page {
    servers: Vec<Value>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

/// End of a read before the last page.
pub enum Trouble {
    Egress(EgressError),
    /// A bound that was reached, as a sentence.
    Bound(String),
}

impl<'a> Pages<'a> {
    /// Begins to read a registry at this address.
    pub fn of(egress: &'a Egress, registry: &Url) -> Pages<'a> {
        let mut list = registry.clone();
        list.set_path(&format!("{}/v0.1/servers", registry.path().trim_end_matches('/')));
        list.set_query(None);
        Pages { egress, list, next: Next::First, read: 0 }
    }

    /// Returns the elements of the next page; none after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, Trouble> {
        let mut url = self.list.clone();
        let cursor = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return Ok(None),
            Next::Circle => {
                return Err(Trouble::Bound("the registry names the same cursor again".to_owned()));
            }
            Next::First => None,
            Next::After(cursor) => Some(cursor),
        };
        if self.read == MAX_PAGES {
            return Err(Trouble::Bound(format!("the registry has more than {MAX_PAGES} pages")));
        }
        url.query_pairs_mut().append_pair("limit", LIMIT);
        if let Some(cursor) = &cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        let host = || url.host_str().unwrap_or_default().to_owned();
        let fetched = self.egress.fetch_json::<Page>(url.as_str(), MAX_PAGE_BYTES);
        let page = tokio::time::timeout(PAGE_TIME, fetched)
            .await
            .unwrap_or_else(|_| Err(EgressError::TimedOut { host: host() }))
            .map_err(Trouble::Egress)?;
        self.read += 1;
        let next = page.metadata.and_then(|metadata| metadata.next_cursor).filter(|next| !next.is_empty());
        self.next = match next {
            None => Next::End,
            Some(next) if Some(&next) == cursor.as_ref() => Next::Circle,
            Some(next) => Next::After(next),
        };
        Ok(Some(page.servers))
    }
}
