//! Tools for the log of a task.

use std::time::{Duration, Instant};

use entity::collab::NewStep;
use protocol::provider::{ProviderError, ToolOutput};
use protocol::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Call, Collab, answer, seconds};

/// Longest wait for new events.
pub const LONGEST_WAIT: u64 = 60;

/// Most events of one answer.
const MOST: u64 = 200;

/// Longest step, bytes of its JSON.
pub const LONGEST_STEP: usize = 64 << 10;

/// Least time between two reads of events.
const BETWEEN: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct LogStep {
    task_id: String,
    step: String,
    status: Option<String>,
    message: Option<String>,
    data: Option<Value>,
    step_id: Option<String>,
}

#[derive(Deserialize)]
struct Subscribe {
    task_id: String,
    after: Option<i64>,
    wait_seconds: Option<f64>,
    limit: Option<u64>,
}

impl Collab {
    /// Answers when the step is stored.
    pub(super) async fn log_step(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: LogStep = call.read()?;
        let mut data = Map::from_iter([("step".to_owned(), Value::from(given.step))]);
        let texts = [("status", given.status), ("message", given.message)];
        data.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
        if let Some(more) = given.data {
            data.insert("data".to_owned(), more);
        }
        let data = Value::Object(data);
        let bytes = data.to_string().len();
        if bytes > LONGEST_STEP {
            let reason = format!("the step has {bytes} bytes, and at most {LONGEST_STEP} are taken");
            return Err(Refusal::new(Code::ValidationFailed, reason)
                .hint("write what is long into a file of the task")
                .into());
        }
        let step_id = given.step_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        if !(1..=128).contains(&step_id.len()) {
            return Err(Refusal::new(Code::ValidationFailed, "`step_id` has 1 to 128 bytes").into());
        }
        let member = &call.agent.member;
        let step = NewStep {
            tenant: call.agent.tenant,
            task: given.task_id.clone(),
            agent: member.agent.clone(),
            sees_all: member.sees_all,
            step_id: step_id.clone(),
            data,
        };
        let stored = self.steps.append(step, call.answer_by()).await?;
        Ok(answer(json!({
            "taskId": given.task_id, "seq": stored.seq, "stepId": step_id, "repeated": stored.repeated,
        })))
    }

    /// Returns the events after a number; waits for the first one, if there is none.
    pub(super) async fn subscribe_logs(&self, call: &Call<'_>) -> Result<ToolOutput, ProviderError> {
        let given: Subscribe = call.read()?;
        let (tenant, member) = (call.agent.tenant, &call.agent.member);
        let after = given.after.unwrap_or_default();
        let wait = seconds(given.wait_seconds, Duration::ZERO, LONGEST_WAIT);
        let until = (Instant::now() + wait).min(call.answer_by());
        let limit = given.limit.unwrap_or(MOST).clamp(1, MOST);
        let mut follower = self.hub.follow((tenant, given.task_id.as_str().into()));
        loop {
            let (events, newest) =
                self.db.tenant(tenant).events_after(member, &given.task_id, after, limit).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() || self.stopping.is_cancelled() {
                let after = events.last().map_or(after, |event| event.seq);
                return Ok(answer(json!({
                    "taskId": given.task_id, "events": events, "after": after, "newest": newest,
                    "more": after < newest,
                })));
            }
            self.wait(left, follower.after(after)).await;
            tokio::time::sleep(BETWEEN).await;
        }
    }
}
