//! Channels within this process: the fan-out of one channel to its subscribers. It knows no
//! network; memory and Redis both deliver through it.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::stream::{self, StreamExt};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Notice, StateKey, Subscription};

/// Messages that wait for a slow subscriber before the subscriber is notified that it missed some.
const WAITING: usize = 64;

/// The channels that have a subscriber here.
#[derive(Default)]
pub(super) struct Channels {
    senders: DashMap<StateKey, broadcast::Sender<Notice>>,
}

impl Channels {
    /// Joins a channel. `on_last` is called when the last subscriber of it has left.
    pub fn join(
        self: &Arc<Self>,
        channel: &StateKey,
        on_last: impl FnOnce(&StateKey) + Send + 'static,
    ) -> Subscription {
        // Subscribed while the entry is held, so that no leaving subscriber removes it in between.
        let receiver = self
            .senders
            .entry(channel.clone())
            .or_insert_with(|| broadcast::Sender::new(WAITING))
            .subscribe();
        let seat = Seat {
            receiver: Some(receiver),
            channels: self.clone(),
            channel: channel.clone(),
            on_last: Some(Box::new(on_last)),
        };
        stream::unfold(seat, |mut seat| async move {
            let notice = match seat.receiver.as_mut()?.recv().await {
                Ok(notice) => notice,
                Err(RecvError::Lagged(_)) => Notice::Missed,
                Err(RecvError::Closed) => return None,
            };
            Some((notice, seat))
        })
        .boxed()
    }

    /// Hands a message to the channel's subscribers here, if there are any.
    pub fn deliver(&self, channel: &StateKey, payload: Bytes) {
        if let Some(sender) = self.senders.get(channel) {
            // An error means that the last subscriber is just leaving.
            let _ = sender.send(Notice::Message(payload));
        }
    }

    /// Tells every subscriber that messages may be lost.
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

/// The work when the last subscriber has left.
type OnLast = Box<dyn FnOnce(&StateKey) + Send>;

/// A subscriber's place; dropping it leaves the channel.
struct Seat {
    receiver: Option<broadcast::Receiver<Notice>>,
    channels: Arc<Channels>,
    channel: StateKey,
    on_last: Option<OnLast>,
}

impl Drop for Seat {
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
