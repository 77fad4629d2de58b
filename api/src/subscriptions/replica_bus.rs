//! Messages between replicas: changes, clients' responses to server requests, cancellations, ended sessions.
//! A lost message loses no fact that was acknowledged.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use protocol::{ServerId, Slug, TenantId};
use proxy::catalog::ListKind;
use proxy::state::{Notice, StateError, StateKey, StateStore};
use serde::{Deserialize, Serialize};

use crate::session::SessionHash;

/// The channel of all replicas.
const CHANNEL: &str = "mcp";

pub struct ReplicaBus {
    /// This replica's mark: random, new at each start.
    pub replica: Arc<str>,
    state: Arc<dyn StateStore>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Message {
    Changed(Change),
    Answered {
        session: String,
        id: String,
        answer: Answer,
    },
    Cancelled {
        session: String,
        id: String,
    },
    /// Resources to which streams of the sending replica are subscribed, for a minute.
    Wanted {
        wanted: Vec<Resource>,
    },
    /// The sending replica has stored a list of a server.
    Listed {
        tenant: TenantId,
        server: ServerId,
    },
    /// The session's facts have changed.
    Renewed {
        session: String,
    },
    Closed {
        session: String,
    },
    /// The session's GET stream is read at the sending replica from now on.
    Read {
        session: String,
    },
    /// Some messages may be lost. Never sent.
    #[serde(skip)]
    Missed,
}

/// A resource of a tenant's server, by the server's own URI.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    pub tenant: TenantId,
    pub server: ServerId,
    pub uri: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Result(String),
    Error(String),
}

/// A change, for subscribed streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub tenant: TenantId,
    /// None for the tenant's whole catalog.
    pub server: Option<ServerId>,
    /// Owner of the dedicated upstream that changed; zero for a shared one.
    pub owner: u64,
    pub what: What,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// All lists: the registry changed what these servers show.
    Lists {
        servers: Vec<Slug>,
    },
    Tools,
    Resources,
    Prompts,
    Resource {
        uri: String,
        params: String,
    },
}

impl From<ListKind> for What {
    fn from(kind: ListKind) -> Self {
        match kind {
            ListKind::Tools => What::Tools,
            ListKind::Resources | ListKind::ResourceTemplates => What::Resources,
            ListKind::Prompts => What::Prompts,
        }
    }
}

impl What {
    /// Returns a key that is equal for repeated changes.
    pub fn name(&self) -> &str {
        match self {
            What::Lists { .. } => "lists",
            What::Tools => "tools",
            What::Resources => "resources",
            What::Prompts => "prompts",
            What::Resource { uri, .. } => uri,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    from: String,
    message: Message,
}

impl ReplicaBus {
    pub fn new(state: Arc<dyn StateStore>) -> Self {
        let mut random = [0u8; 9];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        Self { replica: URL_SAFE_NO_PAD.encode(random).replace('-', "_").into(), state }
    }

    /// Publishes a message to all other replicas; returns false if that failed.
    pub async fn publish(&self, message: Message) -> bool {
        let envelope = Envelope { from: self.replica.to_string(), message };
        let payload = Bytes::from(serde_json::to_vec(&envelope).expect("a message is plain data"));
        let published = self.state.publish(&StateKey::global(CHANNEL), payload).await;
        if let Err(error) = &published {
            tracing::debug!(%error, "a message to other replicas could not be sent");
        }
        published.is_ok()
    }

    /// Returns the messages of other replicas, until the connection is lost for good.
    pub async fn subscribe(&self) -> Result<BoxStream<'static, Message>, StateError> {
        let notices = self.state.subscribe(&StateKey::global(CHANNEL)).await?;
        let own = Arc::clone(&self.replica);
        let read = move |notice: Notice| {
            let Notice::Message(payload) = notice else { return Some(Message::Missed) };
            match serde_json::from_slice::<Envelope>(&payload) {
                Ok(envelope) => (*envelope.from != *own).then_some(envelope.message),
                Err(error) => {
                    tracing::debug!(%error, "another replica says what is not known here");
                    None
                }
            }
        };
        Ok(notices.filter_map(move |notice| std::future::ready(read(notice))).boxed())
    }
}

pub fn session_text(hash: &SessionHash) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

pub fn session_hash(text: &str) -> Option<SessionHash> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
