//! Publish/subscribe channels inside this process: the fan-out of one channel to its subscribers. Memory
//! and Redis both deliver through the fan-out, which knows no network.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::stream::{self, StreamExt};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Notice, StateKey, Subscription};

/// Messages queued for a slow subscriber before messages are dropped and reported as missed.
const WAITING: usize = 64;

/// Channels that have a subscriber in this process.
#[derive(Default)]
pub(super) struct Channels {
    senders: DashMap<StateKey, broadcast::Sender<Notice>>,
}

impl Channels {
    /// Subscribes to a channel. `on_last` is called when the last subscriber of the channel has left.
    pub fn join(
        self: &Arc<Self>,
        channel: &StateKey,
        on_last: impl FnOnce(&StateKey) + Send + 'static,
    ) -> Subscription {
        // The entry stays locked here, so that no leaving subscriber removes the entry meanwhile.
        let receiver = self
            .senders
            .entry(channel.clone())
            .or_insert_with(|| broadcast::Sender::new(WAITING))
            .subscribe();
        let guard = SubscriberGuard {
            receiver: Some(receiver),
            channels: self.clone(),
            channel: channel.clone(),
            on_last: Some(Box::new(on_last)),
        };
        stream::unfold(guard, |mut guard| async move {
            let notice = match guard.receiver.as_mut()?.recv().await {
                Ok(notice) => notice,
                Err(RecvError::Lagged(_)) => Notice::Missed,
                Err(RecvError::Closed) => return None,
            };
            Some((notice, guard))
        })
        .boxed()
    }

    /// Sends a message to the channel's subscribers in this process, if any.
    pub fn deliver(&self, channel: &StateKey, payload: Bytes) {
        if let Some(sender) = self.senders.get(channel) {
            // An error means that the last subscriber is just leaving.
            let _ = sender.send(Notice::Message(payload));
        }
    }

    /// Notifies every subscriber that messages may be lost.
    pub fn announce_gap(&self) {
        for sender in &self.senders {
            let _ = sender.send(Notice::Missed);
        }
    }

    pub fn contains(&self, channel: &StateKey) -> bool {
        self.senders.contains_key(channel)
    }

    pub fn names(&self) -> Vec<StateKey> {
        self.senders.iter().map(|entry| entry.key().clone()).collect()
    }
}

/// Callback for the departure of the last subscriber.
type OnLast = Box<dyn FnOnce(&StateKey) + Send>;

/// A subscriber's receiver; dropping it leaves the channel.
struct SubscriberGuard {
    receiver: Option<broadcast::Receiver<Notice>>,
    channels: Arc<Channels>,
    channel: StateKey,
    on_last: Option<OnLast>,
}

impl Drop for SubscriberGuard {
    fn drop(&mut self) {
        self.receiver = None;
        let removed = self
            .channels
            .senders
            .remove_if(&self.channel, |_, sender| sender.receiver_count() == 0)
            .is_some();
        if let Some(on_last) = self.on_last.take().filter(|_| removed) {
            on_last(&self.channel);
        }
    }
}
