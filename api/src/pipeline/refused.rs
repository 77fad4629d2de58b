//! Requests refused as a whole, and the state of the rate limit that every answer shows.

use std::time::Duration;

use protocol::Refusal;

/// A request that was turned away as a whole.
pub struct Refused {
    pub refusal: Refusal,
    pub id: Option<String>,
    pub rate_limit: Option<RateLimitState>,
    /// Whether it was read and is one `tools/call`, whose refusal can be a tool's result too.
    pub is_tool_call: bool,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, id: None, rate_limit: None, is_tool_call: false }
    }
}

impl Refused {
    /// Answers under this id where the request's own was not read.
    pub fn under(self, id: Option<String>) -> Self {
        Self { id: self.id.or(id), ..self }
    }

    pub fn rate_limited(self, rate_limit: RateLimitState) -> Self {
        Self { rate_limit: Some(rate_limit), ..self }
    }
}

/// Where the caller stands with its limit, for the answer's headers; none when it has no limit.
#[derive(Clone, Copy, Default, Debug)]
pub struct RateLimitState(pub Option<QuotaState>);

impl RateLimitState {
    /// This one, or the other where this one says nothing.
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
    /// Until all of it may be used at once again.
    pub reset_after: Duration,
}
