//! Multi round-trip requests for a legacy client (row 4, left): `inputRequests` of a modern upstream go to
//! the client as requests, and the call is repeated with the answers.

use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use protocol::mcp::method;
use protocol::members::raw;
use protocol::{Code, Members, Refusal};

use super::client::{capability_of, is_by_url};
use super::meta::read_params;
use super::results::{self, Asked, AskedOne};
use super::{Bridge, QUESTIONS_WITHIN, UpstreamCall, may_ask};
use crate::pool::{Delivered, PoolKey};
use crate::server::ServerSpec;
use crate::upstream::{Listener, Params, ServerRequest, UpstreamAnswer};

use std::sync::Arc;

/// Most rounds of input requests in one call.
const MAX_ROUNDS: usize = 8;

pub async fn answered_with_input(
    bridge: &Bridge,
    key: &PoolKey,
    spec: &Arc<ServerSpec>,
    call: &UpstreamCall<'_>,
) -> Result<Delivered, Refusal> {
    let begun = Instant::now();
    let mut delivered = bridge.same(key, spec, call).await?;
    if !may_ask(call.method) {
        return Ok(delivered);
    }
    for round in 0.. {
        let UpstreamAnswer::Result(result) = &delivered.answer else { return Ok(delivered) };
        let Some(asked) = results::asked(result) else { return Ok(delivered) };
        if round == MAX_ROUNDS {
            break;
        }
        let left = QUESTIONS_WITHIN.saturating_sub(begun.elapsed());
        let answers = tokio::time::timeout(left, answers(call, &asked)).await;
        let answers = match answers {
            Ok(Ok(answers)) => answers,
            Ok(Err(problem)) => return Ok(failed(delivered.clone(), call, &problem)),
            Err(_) => {
                let reason = format!("the client did not answer within {} s", QUESTIONS_WITHIN.as_secs());
                return Err(Refusal::new(Code::TimedOut, reason));
            }
        };
        let whole = call.params.contiguous();
        let mut params = read_params(&whole)?;
        params.set("inputResponses", answers);
        if let Some(state) = &asked.state {
            params.set_text("requestState", state);
        }
        let params = params.write();
        let again = UpstreamCall {
            params: Params::raw(params.as_bytes()),
            client_channel: call.client_channel.clone(),
            ..*call
        };
        let next = bridge.same(key, spec, &again).await?;
        delivered = Delivered { attempts: delivered.attempts.saturating_add(1), ..next };
    }
    let reason = format!("`{}` asked the client {MAX_ROUNDS} times and still has no answer", spec.slug);
    Err(Refusal::new(Code::UpstreamFailed, reason))
}

/// Returns all answers as one object, or the reason for a missing one.
async fn answers(
    call: &UpstreamCall<'_>,
    asked: &Asked<'_>,
) -> Result<Box<serde_json::value::RawValue>, String> {
    // Nobody is asked in vain.
    asked.requests.iter().try_for_each(|(_, one)| channel(call, one).map(drop))?;
    let answers = join_all(asked.requests.iter().map(|(key, one)| async move {
        let answer = answer(call, one).await?;
        let key = serde_json::to_string(key).expect("a string is JSON");
        Ok(format!("{key}:{answer}"))
    }))
    .await
    .into_iter()
    .collect::<Result<Vec<String>, String>>()?;
    Ok(raw(format!("{{{}}}", answers.join(","))))
}

/// Returns the channel of a client that declared what it takes to answer.
fn channel<'a>(call: &'a UpstreamCall<'_>, one: &AskedOne<'_>) -> Result<&'a Arc<dyn Listener>, String> {
    let params = one.params.map(|params| params.get());
    let channel = call.client_channel.as_ref().filter(|_| call.client.can.allow(&one.method, params));
    channel.ok_or_else(|| {
        let capability = capability_of(&one.method);
        format!("the server asks for `{}`, for which the client did not declare `{capability}`", one.method)
    })
}

async fn answer(call: &UpstreamCall<'_>, one: &AskedOne<'_>) -> Result<String, String> {
    let client_channel = channel(call, one)?;
    let params = one.params.map(|params| params.get());
    let params = match params {
        Some(params) if one.method == method::ELICIT && is_by_url(Some(params)) => Some(with_id(params)),
        Some(params) => Some(params.to_owned()),
        None => None,
    };
    let (question, answered) = ServerRequest::new(one.method.clone(), params.map(Bytes::from));
    client_channel.on_request(question);
    match answered.await {
        Ok(UpstreamAnswer::Result(result)) => {
            String::from_utf8(result.to_vec()).map_err(|_| "the client's answer is not text".to_owned())
        }
        Ok(UpstreamAnswer::Error(error)) => {
            Err(format!("the client answered `{}` with {}", one.method, String::from_utf8_lossy(&error)))
        }
        Err(_) => Err("the client went away without an answer".to_owned()),
    }
}

/// Adds the `elicitationId` of the legacy era (row 12).
fn with_id(params: &str) -> String {
    let Ok(mut members) = Members::read(params) else { return params.to_owned() };
    let id = format!(r#""{}""#, uuid::Uuid::new_v4());
    members.or_insert("elicitationId", || raw(id));
    members.write()
}

/// Returns the failure of an input request: a tool error, or an error where results have no such form.
fn failed(delivered: Delivered, call: &UpstreamCall<'_>, problem: &str) -> Delivered {
    let answer = if call.method == method::TOOLS_CALL {
        let result = serde_json::json!({ "content": [{ "type": "text", "text": problem }], "isError": true });
        UpstreamAnswer::Result(result.to_string().into())
    } else {
        UpstreamAnswer::error(Code::Internal.rpc(), problem)
    };
    Delivered { answer, ..delivered }
}
