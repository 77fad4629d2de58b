//! Execution records of calls, written through `entity::record`, which makes them durable.

use std::sync::Arc;
use std::time::Duration;

use entity::estimated_tokens;
use entity::record::{self, Begin, Finish, Kind, OpenRecord, RecordedError, Redaction};
use jiff::Timestamp;
use memchr::memmem;
use protocol::{ExecutionId, Outcome, Refusal};
use proxy::pool::Delivered;
use proxy::route::{Permit, Route, Verb};
use proxy::upstream::UpstreamAnswer;
use serde::Deserialize;

use crate::mcp::context::Context;
use crate::mcp::request::Call;
use crate::mcp::response::{Facts, Reply};
use crate::ops::metrics;
use crate::pipeline::redactions::Redactions;

/// Recorder of calls.
pub struct Recorder {
    pub record: record::Recorder,
    /// Most bytes of redacted arguments kept for one call.
    pub argument_bytes: usize,
    pub redactions: Arc<Redactions>,
}

/// A recorded call that is not finished.
pub struct Open {
    id: ExecutionId,
    /// None for completions, which are not recorded.
    record: Option<OpenRecord>,
    server: Arc<str>,
    verb: Verb,
    rules: Arc<Redaction>,
}

impl Recorder {
    /// Records a call, durably when this returns.
    pub async fn begin(
        &self,
        context: Context<'_>,
        call: &Call<'_>,
        permit: &Permit,
    ) -> Result<Open, Refusal> {
        let route = permit.route();
        let rules = self.redactions.of(context.caller.tenant);
        let started_at = Timestamp::now();
        let id = ExecutionId::at(started_at);
        let record = match kind(route.verb) {
            Some(kind) => Some(
                self.record.begin(self.entry((id, started_at), kind, context, call, route, &rules)).await?,
            ),
            None => None,
        };
        Ok(Open { id, record, server: route.policy.spec.slug.shared(), verb: route.verb, rules })
    }

    /// Records a refused call as one finished row.
    pub fn denied(&self, context: Context<'_>, call: &Call<'_>, (route, refusal): (Route, Refusal)) -> Reply {
        let outcome = refusal.code.outcome();
        metrics::operation(route.policy.spec.slug.as_str(), route.verb, outcome, Duration::ZERO, 0, 0);
        if let Some(kind) = kind(route.verb) {
            let rules = self.redactions.of(context.caller.tenant);
            let started_at = Timestamp::now();
            let id = ExecutionId::at(started_at);
            let entry = self.entry((id, started_at), kind, context, call, &route, &rules);
            let error = Some(recorded(&refusal, &rules));
            self.record.refused(entry, Finish { error, ..Finish::bare(outcome, 0) });
        }
        call.refused(context, refusal)
    }

    fn entry(
        &self,
        (id, started_at): (ExecutionId, Timestamp),
        kind: Kind,
        context: Context<'_>,
        call: &Call<'_>,
        route: &Route,
        rules: &Redaction,
    ) -> Begin {
        let arguments = call.arguments();
        Begin {
            id,
            request: context.request,
            trace_id: context.trace,
            tenant: context.caller.tenant,
            agent: context.caller.agent,
            credential: context.caller.credential,
            caller_kind: context.caller.kind,
            kind,
            server: route.policy.spec.id,
            server_slug: route.policy.spec.slug.shared(),
            // A URI may hold data; names of tools and prompts hold none.
            tool: match kind {
                Kind::ResourcesRead => rules.text(&route.name).into_owned(),
                Kind::ToolsCall | Kind::PromptsGet => route.name.to_string(),
            },
            started_at,
            arguments: (!arguments.is_empty()).then(|| rules.arguments(arguments, self.argument_bytes)),
            digest: record::digest(arguments),
            argument_bytes: u32::try_from(arguments.len()).unwrap_or(u32::MAX),
        }
    }
}

impl Open {
    /// Finishes the record. Never fails, since the call has already been made. The tokens of the facts are estimated;
    /// the record counts those of short texts later.
    pub fn close(self, arguments: &[u8], delivered: &Result<Delivered, Refusal>, took: Duration) -> Facts {
        let (outcome, error) = judge(delivered, &self.rules);
        let result: &[u8] = match delivered {
            Ok(Delivered {
                answer: UpstreamAnswer::Result(bytes) | UpstreamAnswer::Error(bytes), ..
            }) => bytes,
            Err(_) => b"",
        };
        let facts = Facts {
            execution: self.id,
            outcome,
            duration: took,
            tokens_in: estimated_tokens(arguments.len()),
            tokens_out: estimated_tokens(result.len()),
        };
        metrics::operation(&self.server, self.verb, outcome, took, facts.tokens_in, facts.tokens_out);
        if let Some(record) = self.record {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let (queue, upstream, attempts) = match delivered {
                Ok(delivered) => (delivered.queue, delivered.upstream, delivered.attempts),
                Err(_) => (Duration::ZERO, Duration::ZERO, 1),
            };
            let finish = Finish {
                outcome,
                duration_us: micros(took),
                queue_us: micros(queue),
                upstream_us: micros(upstream),
                attempts,
                result_bytes: result.len() as u64,
                tokens_in: facts.tokens_in,
                tokens_out: facts.tokens_out,
                tokens_estimated: true,
                error,
            };
            record.close_counting(finish, arguments, result);
        }
        facts
    }
}

fn kind(verb: Verb) -> Option<Kind> {
    match verb {
        Verb::CallTool => Some(Kind::ToolsCall),
        Verb::ReadResource => Some(Kind::ResourcesRead),
        Verb::GetPrompt => Some(Kind::PromptsGet),
        Verb::Complete | Verb::Pass => None,
    }
}

/// Returns the outcome, and the error for the record.
fn judge(delivered: &Result<Delivered, Refusal>, rules: &Redaction) -> (Outcome, Option<Box<RecordedError>>) {
    match delivered.as_ref().map(|delivered| &delivered.answer) {
        Ok(UpstreamAnswer::Result(result)) if is_tool_error(result) => (Outcome::ToolError, None),
        Ok(UpstreamAnswer::Result(_)) => (Outcome::Ok, None),
        Ok(UpstreamAnswer::Error(error)) => (Outcome::ProtocolError, Some(upstream_error(error, rules))),
        Err(refusal) => (refusal.code.outcome(), Some(recorded(refusal, rules))),
    }
}

fn recorded(refusal: &Refusal, rules: &Redaction) -> Box<RecordedError> {
    Box::new(RecordedError::new(refusal.code.as_str(), &rules.text(&refusal.reason), refusal.rule.clone()))
}

fn upstream_error(error: &[u8], rules: &Redaction) -> Box<RecordedError> {
    #[derive(Deserialize)]
    struct ErrorObject {
        code: i64,
        #[serde(default)]
        message: String,
    }
    let read = serde_json::from_slice(error)
        .unwrap_or(ErrorObject { code: 0, message: "an error without a code".into() });
    Box::new(RecordedError::new(read.code.to_string(), &rules.text(&read.message), None))
}

/// Returns true if a tool's result has `"isError": true` at its top. The text is searched first, since nearly
/// no result has it and parsing a large one costs more than the rest of the call.
fn is_tool_error(result: &[u8]) -> bool {
    let says_true = |at: usize| {
        let rest = &result[at + br#""isError""#.len()..];
        let value = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b':');
        value.is_some_and(|value| rest[value..].starts_with(b"true"))
    };
    if !memmem::find_iter(result, br#""isError""#).any(says_true) {
        return false;
    }
    #[derive(Deserialize)]
    struct ToolResult {
        #[serde(default, rename = "isError")]
        is_error: bool,
    }
    serde_json::from_slice::<ToolResult>(result).is_ok_and(|result| result.is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_error_is_told_by_the_top_member_only() {
        assert!(is_tool_error(br#"{"content":[],"isError" : true}"#));
        assert!(!is_tool_error(br#"{"content":[],"isError":false}"#));
        assert!(!is_tool_error(br#"{"structuredContent":{"isError":true}}"#));
        assert!(!is_tool_error(br#"{"content":[{"text":"\"isError\":true"}]}"#));
    }
}
