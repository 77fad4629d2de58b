//! Web search by HTTP APIs: SearXNG, Brave and Tavily. Their results are brought into one form; keys are sent
//! in headers alone, and are part of no text.

use std::time::Duration;

use proxy::egress::{
    Egress, EgressError, EgressSettings, Method, RequestBuilder, Response, Url, header, read_limited,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Time limit of a search.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer, bytes.
const MAX_BYTES: usize = 2_000_000;

const BRAVE: &str = "https://api.search.brave.com/res/v1/web/search";
const TAVILY: &str = "https://api.tavily.com/search";

/// A configured search provider.
pub struct SearchProvider {
    kind: ProviderKind,
    url: Url,
    key: Option<header::HeaderValue>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Searxng,
    Brave,
    Tavily,
}

impl ProviderKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Searxng => "SearXNG",
            Self::Brave => "Brave",
            Self::Tavily => "Tavily",
        }
    }
}

impl SearchProvider {
    /// Takes the address of a SearXNG instance, such as `http://127.0.0.1:8080/`.
    ///
    /// # Errors
    /// A sentence for an address that is no HTTP URL.
    pub fn searxng(address: &str) -> Result<Self, String> {
        let wrong = |_| "the address of SearXNG must be a URL such as http://127.0.0.1:8080".to_owned();
        let mut url = Url::parse(address).map_err(wrong)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the address of SearXNG must begin with http:// or https://".to_owned());
        }
        url.set_query(None);
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let url = url.join("search").map_err(|error| error.to_string())?;
        Ok(Self { kind: ProviderKind::Searxng, url, key: None })
    }

    /// # Errors
    /// A sentence for a key that no header can hold.
    pub fn brave(key: &str) -> Result<Self, String> {
        Self::with_key(ProviderKind::Brave, BRAVE, key.trim(), key.trim())
    }

    /// # Errors
    /// A sentence for a key that no header can hold.
    pub fn tavily(key: &str) -> Result<Self, String> {
        Self::with_key(ProviderKind::Tavily, TAVILY, key.trim(), &format!("Bearer {}", key.trim()))
    }

    fn with_key(kind: ProviderKind, url: &str, key: &str, value: &str) -> Result<Self, String> {
        let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let value = header::HeaderValue::from_str(value).ok().filter(|_| is_plain);
        let mut value = value.ok_or_else(|| {
            format!("the key of {} is empty or has characters that no key has", kind.name())
        })?;
        value.set_sensitive(true);
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        Ok(Self { kind, url, key: Some(value) })
    }

    pub fn kind(&self) -> ProviderKind {
        self.kind
    }

    /// Sends the searches to another address that speaks the provider's API.
    pub fn at(mut self, url: Url) -> Self {
        self.url = url;
        self
    }

    fn request(&self, egress: &Egress, query: &str, count: u8) -> Result<RequestBuilder, EgressError> {
        let mut url = self.url.clone();
        let mut request = match self.kind {
            ProviderKind::Searxng => {
                url.query_pairs_mut().append_pair("q", query).append_pair("format", "json");
                egress.request(Method::GET, &url)?
            }
            ProviderKind::Brave => {
                let count = count.to_string();
                let pairs = [("q", query), ("count", &count), ("text_decorations", "false")];
                url.query_pairs_mut().extend_pairs(pairs);
                egress.request(Method::GET, &url)?
            }
            ProviderKind::Tavily => {
                let body = json!({ "query": query, "max_results": count });
                egress.request(Method::POST, &url)?.json(&body)
            }
        };
        if let Some(key) = &self.key {
            request = match self.kind {
                ProviderKind::Brave => request.header("X-Subscription-Token", key),
                ProviderKind::Searxng | ProviderKind::Tavily => request.header(header::AUTHORIZATION, key),
            };
        }
        Ok(request.header(header::ACCEPT, "application/json"))
    }
}

/// One result of a search.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Found {
    pub title: String,
    pub url: String,
    pub snippet: String,
    /// Search engine that found it.
    pub source: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("{0} cannot be asked: {1}")]
    Egress(&'static str, EgressError),
    #[error("{0} refused the key: the operator must give a valid one")]
    Key(&'static str),
    #[error(
        "SearXNG refused the format JSON: the operator must add `json` to `search.formats` in its settings.yml"
    )]
    NoJson,
    #[error("{0} takes no more searches now ({1}): try again later")]
    Limited(&'static str, u16),
    #[error("{0} refused the search with status {1}: shorten or change the query")]
    Refused(&'static str, u16),
    #[error("{0} failed with status {1}: try again later")]
    Failed(&'static str, u16),
    #[error("{0} answered with something other than the JSON that its API has: {1}")]
    NotJson(&'static str, serde_json::Error),
}

/// Search providers in the order in which they are preferred.
pub struct Search {
    egress: Egress,
    providers: Vec<SearchProvider>,
}

impl Search {
    pub fn new(providers: Vec<SearchProvider>) -> Self {
        // The operator gave these addresses, so they may be private; no page is fetched with this client.
        let trusted = providers.iter().map(|provider| provider.url.clone()).collect();
        let settings =
            EgressSettings { timeout: PATIENCE, trusted, follow: false, ..EgressSettings::default() };
        Self { egress: Egress::new(settings), providers }
    }

    pub fn kinds(&self) -> impl Iterator<Item = ProviderKind> {
        self.providers.iter().map(|provider| provider.kind)
    }

    /// Returns the provider of a kind, or the first one.
    pub fn provider(&self, kind: Option<ProviderKind>) -> Option<&SearchProvider> {
        self.providers.iter().find(|provider| kind.is_none_or(|kind| provider.kind == kind))
    }

    /// Asks one provider for at most `count` results.
    pub async fn ask(
        &self,
        provider: &SearchProvider,
        query: &str,
        count: u8,
    ) -> Result<Vec<Found>, SearchError> {
        let name = provider.kind.name();
        let failed = |error| SearchError::Egress(name, error);
        let request = provider.request(&self.egress, query, count).map_err(failed)?;
        let response = self.egress.send(request).await.map_err(failed)?;
        check_status(provider.kind, &response)?;
        let body = read_limited(response, MAX_BYTES).await.map_err(failed)?;
        let mut found = match provider.kind {
            ProviderKind::Searxng => read::<Searxng>(name, &body)?.found(),
            ProviderKind::Brave => read::<Brave>(name, &body)?.found(),
            ProviderKind::Tavily => read::<Tavily>(name, &body)?.found(),
        };
        found.truncate(usize::from(count));
        Ok(found)
    }
}

fn check_status(kind: ProviderKind, response: &Response) -> Result<(), SearchError> {
    let name = kind.name();
    Err(match response.status().as_u16() {
        200..300 => return Ok(()),
        403 if kind == ProviderKind::Searxng => SearchError::NoJson,
        401 | 403 => SearchError::Key(name),
        // Tavily has 432 and 433 for limits of the plan.
        status @ (402 | 429 | 432 | 433) => SearchError::Limited(name, status),
        status @ 400..500 => SearchError::Refused(name, status),
        status => SearchError::Failed(name, status),
    })
}

fn read<T: DeserializeOwned>(name: &'static str, body: &[u8]) -> Result<T, SearchError> {
    serde_json::from_slice(body).map_err(|error| SearchError::NotJson(name, error))
}

/// Answer of SearXNG.
#[derive(Deserialize)]
struct Searxng {
    results: Vec<SearxngResult>,
}

#[derive(Deserialize)]
struct SearxngResult {
    url: String,
    title: Option<String>,
    content: Option<String>,
    engine: Option<String>,
}

impl Searxng {
    fn found(self) -> Vec<Found> {
        let found = |result: SearxngResult| Found {
            title: result.title.unwrap_or_default(),
            url: result.url,
            snippet: result.content.unwrap_or_default(),
            source: result.engine.unwrap_or_else(|| "searxng".to_owned()),
        };
        self.results.into_iter().map(found).collect()
    }
}

/// Answer of Brave; a search without results has no `web`.
#[derive(Deserialize)]
struct Brave {
    #[expect(dead_code, reason = "its presence tells an answer of Brave from another JSON object")]
    r#type: String,
    web: Option<BraveWeb>,
}

#[derive(Deserialize)]
struct BraveWeb {
    results: Vec<BraveResult>,
}

#[derive(Deserialize)]
struct BraveResult {
    title: String,
    url: String,
    description: Option<String>,
}

impl Brave {
    fn found(self) -> Vec<Found> {
        let found = |result: BraveResult| Found {
            title: result.title,
            url: result.url,
            snippet: result.description.unwrap_or_default(),
            source: "brave".to_owned(),
        };
        self.web.into_iter().flat_map(|web| web.results).map(found).collect()
    }
}

/// Answer of Tavily.
#[derive(Deserialize)]
struct Tavily {
    results: Vec<TavilyResult>,
}

#[derive(Deserialize)]
struct TavilyResult {
    title: String,
    url: String,
    content: String,
}

impl Tavily {
    fn found(self) -> Vec<Found> {
        let found = |result: TavilyResult| Found {
            title: result.title,
            url: result.url,
            snippet: result.content,
            source: "tavily".to_owned(),
        };
        self.results.into_iter().map(found).collect()
    }
}
