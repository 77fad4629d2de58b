//! Failures of HTTP requests: which refusal it is, whether anything was sent, and whether it says
//! anything about the server but that it is out of reach.

use std::time::{Duration, SystemTime};

use protocol::{Code, Refusal};

use crate::egress::{EgressError, Response, header};
use crate::upstream::Failure;

/// A request without an answer.
#[derive(Debug)]
pub struct Trouble {
    pub failure: Failure,
    /// The HTTP status, where that was the answer.
    pub status: Option<u16>,
    /// The server answered in time with something that is not MCP.
    pub no_answer: bool,
}

impl Trouble {
    pub fn new(code: Code, reason: String, sent: bool) -> Self {
        Self::from_refusal(Refusal::new(code, reason), sent)
    }

    pub fn from_refusal(refusal: Refusal, sent: bool) -> Self {
        Failure { refusal, sent }.into()
    }

    /// A status that says "not here" or "not so", and nothing about a state that may pass.
    pub fn is_a_no(&self) -> bool {
        self.status.is_some_and(|status| {
            matches!(status, 400..=499 | 501 | 505) && !matches!(status, 401 | 403 | 407 | 408 | 425 | 429)
        })
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Self { failure, status: None, no_answer: false }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        trouble.failure
    }
}

/// The egress client failed.
pub fn unreached(server: &str, error: &EgressError) -> Trouble {
    let code = match error {
        EgressError::TimedOut { .. } => Code::TimedOut,
        EgressError::TooLarge { .. } | EgressError::Broken { .. } => Code::UpstreamFailed,
        EgressError::NotUrl(_) | EgressError::Scheme(_) => Code::NotConfigured,
        EgressError::NotPublic { .. }
        | EgressError::Redirect { .. }
        | EgressError::TooManyRedirects { .. }
        | EgressError::Unreachable { .. }
        | EgressError::Status { .. }
        | EgressError::NotJson { .. }
        | EgressError::Client(_) => Code::UpstreamUnavailable,
    };
    Trouble::new(code, format!("`{server}`: {error}"), error.sent())
}

/// A status that is no answer.
pub fn status(server: &str, status: u16, wait: Option<Duration>) -> Trouble {
    let reason = match status {
        401 => format!("`{server}` asks for credentials: it answered with HTTP status {status}"),
        _ => format!("`{server}` answered with HTTP status {status}"),
    };
    let refusal = match status {
        401 | 403 => Refusal::new(Code::UpstreamFailed, reason)
            .hint("check the server's headers: it wants other credentials"),
        429 => Refusal::new(Code::UpstreamUnavailable, format!("{reason}: it is asked too often")),
        502..=504 => Refusal::new(Code::UpstreamUnavailable, reason),
        _ => Refusal::new(Code::UpstreamFailed, reason),
    };
    let refusal = Refusal { retry_after: wait, ..refusal };
    Trouble { failure: Failure { refusal, sent: true }, status: Some(status), no_answer: false }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds or a date; at most a day.
pub fn retry_after(response: &Response) -> Option<Duration> {
    const MOST: Duration = Duration::from_secs(24 * 3600);
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds).min(MOST));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = SystemTime::from(at).duration_since(SystemTime::now()).unwrap_or_default();
    Some(wait.min(MOST))
}
