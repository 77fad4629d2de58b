//! Redis Pub/Sub: one connection that listens for all subscribers of this process, reconnects after a loss,
//! and reports the gap to subscribers. Knows no values and no limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisResult};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::super::channels::Channels;
use super::super::{StateError, StateKey, Subscription};
use super::connect::Connector;
use super::link::unavailable;

/// Interval of probes on a silent connection.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Subscribers' end.
pub(super) struct Live {
    channels: Arc<Channels>,
    orders: mpsc::UnboundedSender<Order>,
    timeout: Duration,
}

/// The listening task.
pub(super) struct Listener {
    connector: Arc<Connector>,
    channels: Arc<Channels>,
    orders: mpsc::UnboundedReceiver<Order>,
}

enum Order {
    /// Subscription of a channel; the sender gets the confirmation of Redis.
    Listen(StateKey, oneshot::Sender<()>),
    /// Departure of the last subscriber.
    Leave(StateKey),
}

pub(super) fn live(connector: Arc<Connector>) -> (Live, Listener) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let channels = Arc::<Channels>::default();
    let live = Live { channels: channels.clone(), orders: sender, timeout: connector.timeout };
    (live, Listener { connector, channels, orders: receiver })
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
    /// Listens until stopped. Connects at the first subscription.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&mut self) {
        while let Some(order) = self.orders.recv().await {
            let (mut next, mut lost) = (Some(order), false);
            while next.is_some() || !self.channels.names().is_empty() {
                let open = |client| open(client, &self.channels);
                let failed = |reason| tracing::debug!(reason, "Redis cannot be listened to");
                let connection = self.connector.connect(open, failed).await;
                if lost {
                    self.channels.announce_gap();
                }
                let reason = self.session(connection, next.take()).await;
                tracing::warn!(reason, "the listening connection to Redis is lost");
                lost = true;
            }
        }
    }

    /// Listens on one connection until it is lost, and returns the reason.
    async fn session(&mut self, connection: (PubSubSink, PubSubStream), first: Option<Order>) -> String {
        let (mut sink, mut messages) = connection;
        if let Some(order) = first
            && let Err(reason) = self.obey(&mut sink, order).await
        {
            return reason;
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
                _ = beat.tick() => within(self.connector.timeout, sink.ping::<redis::Value>()).await.map(|_| ()),
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    async fn obey(&self, sink: &mut PubSubSink, order: Order) -> Result<(), String> {
        match order {
            // A subscriber that gave up waiting has left the channel already.
            Order::Listen(channel, confirm) if !confirm.is_closed() => {
                within(self.connector.timeout, sink.subscribe(channel.as_str())).await?;
                let _ = confirm.send(());
                Ok(())
            }
            Order::Leave(channel) if !self.channels.contains(&channel) => {
                within(self.connector.timeout, sink.unsubscribe(channel.as_str())).await
            }
            Order::Listen(..) | Order::Leave(..) => Ok(()),
        }
    }
}

/// Opens a connection that is subscribed to all channels that have a subscriber here.
async fn open(client: Client, channels: &Channels) -> RedisResult<(PubSubSink, PubSubStream)> {
    let (mut sink, messages) = client.get_async_pubsub().await?.split();
    let names = channels.names();
    if !names.is_empty() {
        sink.subscribe(names.iter().map(StateKey::as_str).collect::<Vec<_>>()).await?;
    }
    Ok((sink, messages))
}

async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
