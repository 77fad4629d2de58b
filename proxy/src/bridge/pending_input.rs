//! Multi round-trip requests for a modern client (row 4, right): when a legacy upstream sends requests during
//! a call, the client gets `input_required`, and its next request resumes the pending call. A pending call
//! lives in this process only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::mcp::{self, Era};
use protocol::{Code, Members, Refusal};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call_listener;
use super::exclusive_slots::AskingMark;
use super::meta::{opened_state, read_params};
use super::pausable_deadline::PausableDeadline;
use super::{Bridge, QUESTIONS_WITHIN, UpstreamCall, late, may_ask, meta};
use crate::pool::{Delivered, PoolKey};
use crate::server::ServerSpec;
use crate::upstream::{Listener, Params, ServerRequest, UpstreamAnswer, UpstreamRequest};

/// Most calls pending at once.
const MAX_PARKED: usize = 10_000;

/// Time in which further server requests join the same result.
const TOGETHER: Duration = Duration::from_millis(5);

#[derive(Default)]
pub struct PendingInput(Mutex<HashMap<u128, Call>>);

/// A call that continues without a request of the client.
struct Call {
    steps: mpsc::UnboundedReceiver<Step>,
    open: Vec<(String, ServerRequest)>,
    asked: usize,
    until: Instant,
    /// The request that waits now.
    line: Arc<Line>,
    asking: AskingMark,
    /// Cancels the call when dropped.
    _life: DropGuard,
}

enum Step {
    Asks(ServerRequest),
    Done(Result<Delivered, Refusal>),
}

impl PendingInput {
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    fn put(&self, ticket: u128, pending_call: Call) -> Result<(), Refusal> {
        let mut pending = self.0.lock();
        let now = Instant::now();
        pending.retain(|_, pending_call| pending_call.until > now);
        if pending.len() >= MAX_PARKED {
            return Err(Refusal::new(Code::ConcurrencyLimited, "too many calls wait for answers of clients"));
        }
        pending.insert(ticket, pending_call);
        Ok(())
    }

    fn take(&self, ticket: u128) -> Option<Call> {
        self.0.lock().remove(&ticket).filter(|pending_call| pending_call.until > Instant::now())
    }
}

/// Begins a call, or resumes the one whose input arrives now.
pub async fn answered_or_pending(
    bridge: &Bridge,
    key: PoolKey,
    spec: &Arc<ServerSpec>,
    call: &UpstreamCall<'_>,
) -> Result<Delivered, Refusal> {
    if !may_ask(call.method) {
        // An upstream of one client sends its requests to the newest call, which no list is.
        let client_channel = call.client_channel.clone().filter(|_| key.owner == 0);
        return bridge.same(&key, spec, &UpstreamCall { client_channel, ..*call }).await;
    }
    let begun = Instant::now();
    // A pending call must not be made a second time.
    if let Some(pending_call) = resumed(bridge, call)? {
        return go_on(bridge, pending_call, call, begun).await;
    }
    // Without declared capabilities the upstream cannot send requests.
    if key.declared == 0 {
        return bridge.same(&key, spec, call).await;
    }
    let pending_call = begin(bridge, key, spec, call).await?;
    go_on(bridge, pending_call, call, begun).await
}

/// Returns the pending call that this request resumes.
fn resumed(bridge: &Bridge, call: &UpstreamCall<'_>) -> Result<Option<Call>, Refusal> {
    if !call.has_meta {
        return Ok(None);
    }
    let whole = call.params.contiguous();
    let params = read_params(&whole)?;
    let Some(ticket) = opened_state(call, &params)? else { return Ok(None) };
    let ticket = ticket.parse().map_err(|_| unknown())?;
    let mut pending_call = bridge.shared.pending.take(ticket).ok_or_else(unknown)?;
    let about = params.get("_meta").and_then(|about| Members::read(about.get()).ok());
    let own = about.and_then(|about| about.get(mcp::meta::PROGRESS_TOKEN).map(ToOwned::to_owned));
    pending_call.line.connect(call.client_channel.clone(), own);
    pending_call.asking.set(false);
    let answers = params.get("inputResponses").map(|answers| answers.get().to_owned());
    // Without answers that can be read, the questions are put again.
    if let Some(Ok(answers)) = answers.as_deref().map(Members::read) {
        pending_call.open = pending_call
            .open
            .into_iter()
            .filter_map(|(key, question)| give(key, question, &answers))
            .collect();
    }
    Ok(Some(pending_call))
}

/// Answers a server request, or returns it if its answer is missing.
fn give(key: String, question: ServerRequest, answers: &Members<'_>) -> Option<(String, ServerRequest)> {
    match answers.get(&key) {
        Some(answer) => {
            question.answer(UpstreamAnswer::Result(answer.get().to_owned().into()));
            None
        }
        None => Some((key, question)),
    }
}

fn unknown() -> Refusal {
    Refusal::new(
        Code::InvalidParams,
        "the call that this requestState belongs to is not pending here any more",
    )
    .rule("a pending call waits 10 minutes, on the replica that began it, and takes its answers once")
    .hint("call again without requestState")
}

/// Starts the call on a slot of its own.
async fn begin(
    bridge: &Bridge,
    key: PoolKey,
    spec: &Arc<ServerSpec>,
    call: &UpstreamCall<'_>,
) -> Result<Call, Refusal> {
    let slot = bridge.shared.slots.take(key, &bridge.pool, Instant::now() + call.timeout).await?;
    let asking = slot.asking_mark();
    bridge.set_profile(&slot.key, call.client);
    if call.client.level.is_some() {
        bridge.log_everything(&slot.key, spec).await;
    }
    let prepared = meta::prepare(call, Era::Legacy)?;
    let (tell, steps) = mpsc::unbounded_channel();
    let cancelled = CancellationToken::new();
    let life = cancelled.clone().drop_guard();
    let pausable = Arc::new(PausableDeadline::new(call.timeout));
    let progress = prepared.progress.as_ref().map(|progress| progress.0);
    let line = Arc::new(Line::default());
    line.connect(call.client_channel.clone(), prepared.progress.map(|(_, own)| own));
    let listener: Arc<dyn Listener> = Arc::new(StepListener {
        client: call.client.clone(),
        tell: tell.clone(),
        pausable: pausable.clone(),
        line: line.clone(),
    });
    let params = match prepared.edited {
        Some(edited) => edited.into_bytes(),
        None => call.params.contiguous().into_owned(),
    };
    let (pool, spec, method, timeout) =
        (bridge.pool.clone(), spec.clone(), call.method.to_owned(), call.timeout);
    bridge.shared.tasks.spawn(async move {
        let request = UpstreamRequest {
            method: &method,
            params: Params::raw(&params),
            deadline: Instant::now() + timeout + QUESTIONS_WITHIN,
            listener: Some(&listener),
            progress,
            headers: &[],
            caller: None,
            retries: None,
            is_use: true,
        };
        let delivered = tokio::select! {
            biased;
            () = cancelled.cancelled() => return,
            delivered = pool.send(&slot.key, &spec, request) => delivered,
            () = pausable.run_out() => Err(late(&spec, timeout)),
        };
        drop(slot);
        // The client may be gone.
        drop(tell.send(Step::Done(delivered)));
    });
    let until = Instant::now() + QUESTIONS_WITHIN;
    Ok(Call { steps, open: Vec::new(), asked: 0, until, line, asking, _life: life })
}

/// Waits for the result, or stores the call as pending at a server request.
async fn go_on(
    bridge: &Bridge,
    mut pending_call: Call,
    call: &UpstreamCall<'_>,
    begun: Instant,
) -> Result<Delivered, Refusal> {
    pending_call.open.retain(|(_, question)| !question.is_withdrawn());
    while let Ok(step) = pending_call.steps.try_recv() {
        match step {
            Step::Done(delivered) => return delivered,
            Step::Asks(question) => pending_call.ask(question),
        }
    }
    if pending_call.open.is_empty() {
        match pending_call.steps.recv().await {
            Some(Step::Done(delivered)) => return delivered,
            Some(Step::Asks(question)) => pending_call.ask(question),
            None => {
                return Err(Refusal::new(Code::UpstreamFailed, "the call ended without an answer"));
            }
        }
        while let Ok(Some(step)) = tokio::time::timeout(TOGETHER, pending_call.steps.recv()).await {
            match step {
                Step::Done(delivered) => return delivered,
                Step::Asks(question) => pending_call.ask(question),
            }
        }
    }
    pending_call.line.connect(None, None);
    pending_call.asking.set(true);
    let ticket = uuid::Uuid::new_v4().as_u128();
    let answer = pending_call.questions(&call.sealer.seal(&ticket.to_string()));
    bridge.shared.pending.put(ticket, pending_call)?;
    let answer = UpstreamAnswer::Result(answer.into());
    Ok(Delivered { answer, queue: Duration::ZERO, upstream: begun.elapsed(), attempts: 1 })
}

impl Call {
    fn ask(&mut self, question: ServerRequest) {
        self.asked += 1;
        self.open.push((format!("question-{}", self.asked), question));
    }

    /// Returns the `input_required` result.
    fn questions(&self, state: &str) -> String {
        #[derive(serde::Serialize)]
        struct One<'a> {
            method: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            params: Option<Box<RawValue>>,
        }
        let requests: std::collections::BTreeMap<&str, One<'_>> = self
            .open
            .iter()
            .map(|(key, question)| {
                let params = question.params.as_deref().and_then(modern_params);
                (key.as_str(), One { method: &question.method, params })
            })
            .collect();
        serde_json::json!({
            "resultType": super::results::INPUT_REQUIRED,
            "inputRequests": requests,
            "requestState": state,
        })
        .to_string()
    }
}

/// Removes members that only the legacy era has (row 12).
fn modern_params(params: &[u8]) -> Option<Box<RawValue>> {
    let mut members = Members::from_slice(params).ok()?;
    members.retain(|name| name != "elicitationId");
    Some(members.to_raw())
}

/// The client request that waits now, if any, and gets notifications.
#[derive(Default)]
struct Line(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    client_channel: Option<Arc<dyn Listener>>,
    own: Option<Box<RawValue>>,
}

impl Line {
    /// Connects a client request; `own` is its progress token.
    fn connect(&self, client_channel: Option<Arc<dyn Listener>>, own: Option<Box<RawValue>>) {
        *self.0.lock() = Waiting { client_channel, own };
    }
}

/// Listener during the whole call, which turns server requests into steps.
struct StepListener {
    client: Arc<super::Client>,
    tell: mpsc::UnboundedSender<Step>,
    pausable: Arc<PausableDeadline>,
    line: Arc<Line>,
}

impl Listener for StepListener {
    fn on_notification(&self, told: &str, params: Option<&str>) {
        let Waiting { client_channel, own } = &*self.line.0.lock();
        if let Some(client_channel) = client_channel {
            call_listener::pass_on(&self.client, &**client_channel, own.as_deref(), told, params);
        }
    }

    fn on_request(&self, question: ServerRequest) {
        call_listener::ask(&self.client, &Tell(self.tell.clone()), question, &self.pausable);
    }
}

struct Tell(mpsc::UnboundedSender<Step>);

impl Listener for Tell {
    fn on_notification(&self, _method: &str, _params: Option<&str>) {}

    fn on_request(&self, question: ServerRequest) {
        // Without a receiver the request is dropped, which answers it with an error.
        drop(self.0.send(Step::Asks(question)));
    }
}
