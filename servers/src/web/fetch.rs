//! HTTP GET of public pages: redirects are followed one at a time, each through the address guard and the
//! host's `robots.txt`, one request per host at a time, with limits of time and size. Sends no credentials.

use std::time::Duration;

use entity::Turns;
use ipnet::IpNet;
use proxy::egress::{Egress, EgressError, EgressSettings, Method, Response, Url, header};
use tokio::time::{Instant, timeout};

use super::body::{self, Body, BodyError};
use super::crawler::Crawler;
use super::media::Media;
use super::robots;

/// Most redirects of one page.
const MAX_REDIRECTS: usize = 5;

/// Largest page, bytes after decoding.
pub const MAX_BYTES: usize = 5_000_000;

/// Time limit of waiting for other requests to the host.
const WAITING: Duration = Duration::from_secs(20);

const ACCEPT: &str = "text/html, application/xhtml+xml, text/plain, text/markdown, application/json, \
                      application/xml;q=0.9, text/*;q=0.8, */*;q=0.1";

/// Failure of a page. The text is for the model, and holds no more of a URL than its host.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("`url` is not a URL ({0}): give an absolute one, such as https://example.com/page")]
    NotUrl(String),
    #[error("`{0}:` URLs are not fetched: give one that begins with https:// or http://")]
    Scheme(String),
    #[error("the URL has a user name or password, which are never sent: give the URL without them")]
    Credentials,
    #[error("{0}")]
    Egress(EgressError),
    #[error(
        "{host} has the address {address}, which is {kind}: only public addresses are fetched, unless the \
         operator opens the network for this server"
    )]
    NotPublic { host: String, address: std::net::IpAddr, kind: &'static str },
    #[error("robots.txt of {host} does not allow this page for {product}: use another source")]
    Disallowed { host: String, product: String },
    #[error(
        "robots.txt of {host} cannot be read ({reason}), so nothing of it may be fetched (RFC 9309): try \
         again in some minutes"
    )]
    NoRobots { host: String, reason: String },
    #[error("more than {MAX_REDIRECTS} redirects, the last to {host}: give the address of the page itself")]
    TooManyRedirects { host: String },
    #[error("{host} redirects in a circle: there is no page at this address")]
    Circle { host: String },
    #[error("{host} redirects to an address that cannot be read: {reason}")]
    BadRedirect { host: String, reason: String },
    #[error("{host} answered with status {status}{}", explained(*.status))]
    Status { host: String, status: u16 },
    #[error(
        "{host} has no text at this address but {kind} of {size}: only text, HTML, JSON and XML are read"
    )]
    NotText { host: String, kind: String, size: String },
    #[error("the page of {host} is larger than {MAX_BYTES} bytes (decompressed): ask for a smaller one")]
    TooLarge { host: String },
    #[error("{host}: {reason}")]
    Body { host: String, reason: String },
    #[error("{host} did not answer completely in time: try again, or use another source")]
    TimedOut { host: String },
    #[error("other requests to {host} took too long: try again")]
    Busy { host: String },
}

/// Returns the next step for some statuses.
fn explained(status: u16) -> &'static str {
    match status {
        401 | 403 => " (it wants a login, or no programs): use another source",
        404 | 410 => " (there is no such page): check the URL",
        429 => " (too many requests): try again later",
        500.. => " (a failure of that host): try again later",
        _ => "",
    }
}

impl From<EgressError> for FetchError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::NotPublic { host, address, kind } => Self::NotPublic { host, address, kind },
            EgressError::TimedOut { host } => Self::TimedOut { host },
            other => Self::Egress(other),
        }
    }
}

/// Settings of [`Fetcher`].
pub struct FetchSettings {
    /// Opened networks that are not public.
    pub allow: Vec<IpNet>,
    pub crawler: Crawler,
    /// Time limit of one page with its redirects, without the time in which other requests to the host end.
    pub patience: Duration,
}

/// Fetches pages.
pub struct Fetcher {
    egress: Egress,
    crawler: Crawler,
    patience: Duration,
    turns: Turns,
    robots: robots::Cache,
}

/// A fetched page.
pub struct Page {
    /// Address after redirects.
    pub url: Url,
    pub redirects: usize,
    pub status: u16,
    pub media: Media,
    pub bytes: Vec<u8>,
}

/// Answer to one request.
enum Hop {
    Redirect(Url),
    Answer { status: u16, media: Media, body: Body },
}

/// Answers whose body is read.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Page,
    Robots,
}

impl Fetcher {
    pub fn new(settings: FetchSettings) -> Self {
        let FetchSettings { allow, crawler, patience } = settings;
        let egress = Egress::new(EgressSettings {
            timeout: patience,
            allow,
            follow: false,
            ..EgressSettings::default()
        });
        Self { egress, crawler, patience, turns: Turns::default(), robots: robots::Cache::default() }
    }

    /// Gets a page that answers with a status of success.
    pub async fn fetch(&self, url: &str) -> Result<Page, FetchError> {
        let mut url = checked(Url::parse(url).map_err(|error| FetchError::NotUrl(error.to_string()))?)?;
        let (mut left, mut seen) = (self.patience, Vec::new());
        loop {
            self.obey_robots(&url, &mut left).await?;
            match self.hop(&url, Wanted::Page, &mut left).await? {
                Hop::Redirect(to) => {
                    seen.push(url);
                    if seen.contains(&to) {
                        return Err(FetchError::Circle { host: host(&to) });
                    }
                    if seen.len() > MAX_REDIRECTS {
                        return Err(FetchError::TooManyRedirects { host: host(&to) });
                    }
                    url = to;
                }
                Hop::Answer { body, .. } if body.cut => {
                    return Err(FetchError::TooLarge { host: host(&url) });
                }
                Hop::Answer { status, media, body } => {
                    return Ok(Page { redirects: seen.len(), url, status, media, bytes: body.bytes });
                }
            }
        }
    }

    /// Sends one request when it is the host's turn, and reads the answer's body in the same turn.
    async fn hop(&self, url: &Url, wanted: Wanted, left: &mut Duration) -> Result<Hop, FetchError> {
        // A refused address is refused at once, before the turn.
        self.egress.check_literal(url)?;
        let _turn = timeout(WAITING, self.turns.of(host(url)))
            .await
            .map_err(|_| FetchError::Busy { host: host(url) })?;
        let started = Instant::now();
        let answered = timeout(*left, self.exchange(url, wanted)).await;
        *left = left.saturating_sub(started.elapsed());
        answered.map_err(|_| FetchError::TimedOut { host: host(url) })?
    }

    async fn exchange(&self, url: &Url, wanted: Wanted) -> Result<Hop, FetchError> {
        let request = self
            .egress
            .request(Method::GET, url)?
            .header(header::USER_AGENT, self.crawler.user_agent())
            .header(header::ACCEPT, ACCEPT)
            .header(header::ACCEPT_ENCODING, "gzip");
        let response = self.egress.send(request).await?;
        let status = response.status().as_u16();
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(Hop::Redirect(target(url, &response)?));
        }
        let kind = response.headers().get(header::CONTENT_TYPE);
        let media = Media::parse(kind.map(|value| value.as_bytes()).unwrap_or_default());
        let is_success = (200..300).contains(&status);
        let limit = match wanted {
            Wanted::Page if !is_success => return Err(FetchError::Status { host: host(url), status }),
            Wanted::Page if !media.is_text() => return Err(not_text(url, &media, response.content_length())),
            Wanted::Page => MAX_BYTES,
            Wanted::Robots if !is_success => 0,
            Wanted::Robots => robots::LIMIT,
        };
        let body = if limit == 0 {
            Body { bytes: Vec::new(), cut: false }
        } else {
            body::read(response, limit).await.map_err(|error| match error {
                BodyError::Egress(error) => error.into(),
                error => FetchError::Body { host: host(url), reason: error.to_string() },
            })?
        };
        Ok(Hop::Answer { status, media, body })
    }

    /// Refuses a page that the host's `robots.txt` does not allow. Its rules are kept for an hour.
    async fn obey_robots(&self, url: &Url, left: &mut Duration) -> Result<(), FetchError> {
        let origin = url.origin().ascii_serialization();
        let rules = match self.robots.find(&origin) {
            Some(rules) => rules,
            None => {
                let rules = self.read_robots(url, left).await?;
                self.robots.keep(origin, rules)
            }
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        if rules.allow(&path) {
            return Ok(());
        }
        Err(FetchError::Disallowed { host: host(url), product: self.crawler.product().to_owned() })
    }

    /// Reads a host's `robots.txt`: one that is missing allows everything, and one that a failure hides
    /// nothing (RFC 9309, 2.3.1).
    async fn read_robots(&self, url: &Url, left: &mut Duration) -> Result<robots::Rules, FetchError> {
        let no_robots = |reason: String| FetchError::NoRobots { host: host(url), reason };
        let mut at = url.join("/robots.txt").map_err(|error| no_robots(error.to_string()))?;
        for _ in 0..=MAX_REDIRECTS {
            match self.hop(&at, Wanted::Robots, left).await? {
                Hop::Redirect(to) => at = to,
                Hop::Answer { status: 200..300, body, .. } => {
                    let text = String::from_utf8_lossy(&body.bytes);
                    return Ok(robots::Rules::parse(&text, self.crawler.product()));
                }
                Hop::Answer { status: status @ (429 | 500..), .. } => {
                    return Err(no_robots(format!("status {status}")));
                }
                Hop::Answer { .. } => return Ok(robots::Rules::default()),
            }
        }
        Ok(robots::Rules::default())
    }
}

/// Returns the address that a redirect names.
fn target(url: &Url, response: &Response) -> Result<Url, FetchError> {
    let bad = |reason: String| FetchError::BadRedirect { host: host(url), reason };
    let location = response.headers().get(header::LOCATION);
    let location = location.ok_or_else(|| bad("it has no `Location`".to_owned()))?;
    let location = String::from_utf8_lossy(location.as_bytes());
    let mut to = url.join(&location).map_err(|error| bad(error.to_string()))?;
    to.set_fragment(None);
    checked(to).map_err(|error| bad(error.to_string()))
}

/// Refuses URLs of other schemes and those with credentials.
fn checked(mut url: Url) -> Result<Url, FetchError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::Credentials);
    }
    url.set_fragment(None);
    Ok(url)
}

fn not_text(url: &Url, media: &Media, length: Option<u64>) -> FetchError {
    let size = length.map_or("an unknown size".to_owned(), |length| format!("{length} bytes"));
    let kind: String = media.essence.chars().filter(|c| c.is_ascii_graphic()).collect();
    FetchError::NotText { host: host(url), kind, size }
}

pub fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
