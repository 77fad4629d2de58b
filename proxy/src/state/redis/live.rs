//! Live messages through Redis: one connection that listens for all subscribers of this process,
//! comes back after a loss, and says so to them. It knows no values and no limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::{PubSub, PubSubSink};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::channels::Channels;
use super::super::{StateError, StateKey, Subscription};
use super::address::Source;
use super::link::{CONNECT, PAUSE, unavailable, with_jitter};

/// How often the listening connection is tried when it is silent.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Subscribers' end.
pub(super) struct Live {
    channels: Arc<Channels>,
    orders: mpsc::UnboundedSender<Order>,
    timeout: Duration,
}

/// The listening task.
pub(super) struct Listener {
    source: Arc<Source>,
    channels: Arc<Channels>,
    orders: mpsc::UnboundedReceiver<Order>,
    timeout: Duration,
}

enum Order {
    /// Redis is to send this channel; the answer comes when it does.
    Listen(StateKey, oneshot::Sender<()>),
    /// The last subscriber left.
    Leave(StateKey),
}

pub(super) fn live(source: Arc<Source>, timeout: Duration) -> (Live, Listener) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let channels = Arc::<Channels>::default();
    let live = Live { channels: channels.clone(), orders: sender, timeout };
    (live, Listener { source, channels, orders: receiver, timeout })
}

impl Live {
    /// Subscribes; fails when Redis does not confirm it within the timeout.
    pub async fn subscribe(&self, channel: &StateKey) -> Result<Subscription, StateError> {
        let orders = self.orders.clone();
        let subscription = self.channels.join(channel, move |channel| {
            // Without a listener there is nothing to leave.
            let _ = orders.send(Order::Leave(channel.clone()));
        });
        let (confirm, confirmed) = oneshot::channel();
        let sent = self.orders.send(Order::Listen(channel.clone(), confirm)).is_ok();
        match timeout(self.timeout, confirmed).await {
            Ok(Ok(())) if sent => Ok(subscription),
            Ok(_) => Err(unavailable("Redis did not take the subscription".to_owned())),
            Err(_) => Err(unavailable(format!("no subscription within {:?}", self.timeout))),
        }
    }
}

impl Listener {
    /// Listens until stopped. Connects when there is somebody to listen for.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&mut self) {
        let mut pause = PAUSE.0;
        let mut lost = false;
        while let Some(order) = self.orders.recv().await {
            let mut next = Some(order);
            while next.is_some() || !self.channels.names().is_empty() {
                match self.session(next.take(), lost).await {
                    Ok(reason) => {
                        tracing::warn!(reason, "the listening connection to Redis is lost");
                        (lost, pause) = (true, PAUSE.0);
                    }
                    Err(reason) => {
                        tracing::debug!(reason, "Redis cannot be listened to");
                        sleep(with_jitter(pause)).await;
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
            }
            lost = false;
        }
    }

    /// One connection from beginning to end. An error is one that never listened.
    async fn session(&mut self, first: Option<Order>, lost: bool) -> Result<String, String> {
        let connecting = async { self.source.client().await?.get_async_pubsub().await };
        let patience = match *self.source {
            Source::Server(_) => self.timeout,
            Source::Sentinels(_) => CONNECT,
        };
        let connection: PubSub = within(patience, connecting).await?;
        let (mut sink, mut messages) = connection.split();
        let names = self.channels.names();
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(StateKey::as_str).collect();
            within(self.timeout, sink.subscribe(names)).await?;
        }
        if lost {
            self.channels.announce_gap();
        }
        if let Some(order) = first {
            self.obey(&mut sink, order).await?;
        }
        let mut beat = interval(HEARTBEAT);
        loop {
            let step = tokio::select! {
                message = messages.next() => match message {
                    Some(message) => {
                        let channel = StateKey::received(message.get_channel_name());
                        self.channels.deliver(&channel, Bytes::copy_from_slice(message.get_payload_bytes()));
                        Ok(())
                    }
                    None => Err("the server closed it".to_owned()),
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(&mut sink, order).await,
                    None => Err("the gateway is stopping".to_owned()),
                },
                _ = beat.tick() => within(self.timeout, sink.ping::<redis::Value>()).await.map(|_| ()),
            };
            if let Err(reason) = step {
                return Ok(reason);
            }
        }
    }

    async fn obey(&self, sink: &mut PubSubSink, order: Order) -> Result<(), String> {
        match order {
            // A subscriber that gave up waiting has left the channel already.
            Order::Listen(channel, confirm) if !confirm.is_closed() => {
                within(self.timeout, sink.subscribe(channel.as_str())).await?;
                let _ = confirm.send(());
                Ok(())
            }
            Order::Leave(channel) if !self.channels.contains(&channel) => {
                within(self.timeout, sink.unsubscribe(channel.as_str())).await
            }
            Order::Listen(..) | Order::Leave(..) => Ok(()),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
