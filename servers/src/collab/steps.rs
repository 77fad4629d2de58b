//! Group commit of log steps: the first is written at once, then at most one transaction every 25 ms. A step
//! is acknowledged when its transaction is committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::Db;
use entity::collab::{NewStep, Numbered};
use parking_lot::Mutex;
use protocol::{Code, Refusal};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::hub::{About, Hub, Notice};

/// Time from one transaction to the next.
const PAUSE: Duration = Duration::from_millis(25);

/// Most steps of one transaction.
const MOST: usize = 500;

/// Most steps that wait.
const MOST_WAITING: usize = 20_000;

pub struct Steps {
    db: Db,
    hub: Arc<Hub>,
    tasks: TaskTracker,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    writes: bool,
    last: Option<Instant>,
    counts: StepCounts,
}

/// Figures since the start.
#[derive(Clone, Copy, Default, Debug)]
pub struct StepCounts {
    pub steps: u64,
    pub transactions: u64,
    pub waiting: usize,
}

struct Waiting {
    step: NewStep,
    deadline: Instant,
    answer: oneshot::Sender<Result<Numbered, Refusal>>,
}

/// The task that writes: after a panic, the next step starts another.
struct Writer<'a> {
    steps: &'a Steps,
    over: bool,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.steps.queue.lock().writes = false;
        }
    }
}

impl Steps {
    pub fn new(db: Db, hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self { db, hub, tasks: TaskTracker::new(), queue: Mutex::default() })
    }

    /// Stores a step; returns when it is stored.
    pub async fn append(self: &Arc<Self>, step: NewStep, deadline: Instant) -> Result<Numbered, Refusal> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.waiting.len() >= MOST_WAITING {
                return Err(Refusal::new(
                    Code::DatabaseUnavailable,
                    "too many log steps wait for the database",
                )
                .retry_after(Duration::from_secs(1)));
            }
            queue.waiting.push_back(Waiting { step, deadline, answer });
            if !queue.writes {
                queue.writes = true;
                let steps = Arc::clone(self);
                self.tasks.spawn(async move { steps.write_all().await });
            }
        }
        let gone = || Refusal::new(Code::ShuttingDown, "the gateway stopped before it stored the step");
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    pub fn counts(&self) -> StepCounts {
        let queue = self.queue.lock();
        StepCounts { waiting: queue.waiting.len(), ..queue.counts }
    }

    /// Writes until nothing waits.
    async fn write_all(&self) {
        let mut writer = Writer { steps: self, over: false };
        loop {
            let pause = self.queue.lock().last.map(|last| PAUSE.saturating_sub(last.elapsed()));
            tokio::time::sleep(pause.unwrap_or_default()).await;
            let batch: Vec<Waiting> = {
                let mut queue = self.queue.lock();
                if queue.waiting.is_empty() {
                    queue.writes = false;
                    writer.over = true;
                    return;
                }
                queue.last = Some(Instant::now());
                let most = queue.waiting.len().min(MOST);
                queue.waiting.drain(..most).collect()
            };
            let busy = self.write(batch).await;
            // Behind the others: they must not wait for a task that is held.
            self.queue.lock().waiting.extend(busy);
        }
    }

    /// Writes one batch; returns the steps whose tasks are held by another transaction.
    async fn write(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let (senders, steps): (Vec<_>, Vec<NewStep>) =
            batch.into_iter().map(|waiting| ((waiting.deadline, waiting.answer), waiting.step)).unzip();
        let answers = match self.db.operator().append_steps(&steps).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(error = error.detail(), steps = steps.len(), "log steps were not stored");
                steps.iter().map(|_| Some(Err(error.refusal()))).collect()
            }
        };
        {
            let counts = &mut self.queue.lock().counts;
            counts.transactions += 1;
            counts.steps += answers.iter().filter(|answer| matches!(answer, Some(Ok(_)))).count() as u64;
        }
        let mut busy = Vec::new();
        for (((deadline, answer), step), stored) in senders.into_iter().zip(steps).zip(answers) {
            let stored = match stored {
                None if Instant::now() < deadline => {
                    busy.push(Waiting { step, deadline, answer });
                    continue;
                }
                None => Err(Refusal::new(Code::TimedOut, "another program holds the task's row")),
                Some(stored) => stored,
            };
            if let Ok(Numbered { seq, repeated: false }) = stored {
                self.hub.changed(Notice {
                    key: (step.tenant, step.task.as_str().into()),
                    seq: Some(seq),
                    about: About::LOGS,
                    path: None,
                });
            }
            // The caller may have given up.
            answer.send(stored).ok();
        }
        busy
    }
}
