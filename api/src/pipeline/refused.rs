//! Requests refused as a whole, and the state of the rate limit that every answer shows.

use std::time::Duration;

use protocol::Refusal;

/// A request that is refused as a whole.
pub struct Refused {
    pub refusal: Refusal,
    pub id: Option<String>,
    pub rate_limit: Option<RateLimitState>,
    /// True if the request was read and is one `tools/call`, whose refusal can be a tool's result too.
    pub is_tool_call: bool,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, id: None, rate_limit: None, is_tool_call: false }
    }
}

impl Refused {
    /// Sets the id where the request's own was not read.
    pub fn under(self, id: Option<String>) -> Self {
        Self { id: self.id.or(id), ..self }
    }

    pub fn rate_limited(self, rate_limit: RateLimitState) -> Self {
        Self { rate_limit: Some(rate_limit), ..self }
    }
}

/// State of the caller's rate limit, for response headers; none without a limit.
#[derive(Clone, Copy, Default, Debug)]
pub struct RateLimitState(pub Option<QuotaState>);

impl RateLimitState {
    pub fn or(self, other: RateLimitState) -> RateLimitState {
        RateLimitState(self.0.or(other.0))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct QuotaState {
    /// `agent` or `tenant`.
    pub whose: &'static str,
    pub max: u32,
    pub window: Duration,
    pub remaining: u32,
    /// Time until the whole limit is available again.
    pub reset_after: Duration,
}
