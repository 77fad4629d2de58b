//! Connections to PostgreSQL over TCP or a Unix socket, with TLS by rustls, and the pool's manager of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use super::address::{Address, Endpoint};
use super::errors;
use super::stream::{Measured, MeasuredTls, Overflow, Socket};
use crate::sql::{Kind, SqlError};

/// Maker of connections to one database.
pub struct Connector {
    address: Address,
    tls: Option<MakeRustlsConnect>,
    tasks: TaskTracker,
}

/// A connection as its user sees it.
pub struct Link {
    pub client: Client,
    overflow: Overflow,
}

impl Link {
    /// Returns true if the connection ended because a row was too long.
    pub fn has_overflown(&self) -> bool {
        self.overflow.load(Ordering::Acquire)
    }
}

impl Connector {
    /// # Errors
    /// A file of certificates that cannot be read.
    pub fn new(address: Address) -> Result<Self, String> {
        let tls = match address.config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls(&address)?)),
        };
        Ok(Self { address, tls, tasks: TaskTracker::new() })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks the server to end the statement of a connection, without waiting for it.
    pub fn cancel_later(self: &Arc<Self>, token: CancelToken) {
        let connector = Arc::clone(self);
        self.tasks.spawn(async move {
            let cancelled =
                tokio::time::timeout(connector.address.connect_timeout, connector.cancel(&token)).await;
            if !matches!(cancelled, Ok(Ok(()))) {
                tracing::debug!("a statement was not cancelled; it ends by its own time limit");
            }
        });
    }

    async fn cancel(&self, token: &CancelToken) -> Result<(), SqlError> {
        let endpoint = self.address.endpoints.first().ok_or_else(no_endpoint)?;
        let socket = open(endpoint).await?;
        let cancelled = match self.rustls(endpoint)? {
            Some(tls) => token.cancel_query_raw(socket, tls).await,
            None => token.cancel_query_raw(socket, NoTls).await,
        };
        cancelled.map_err(|error| errors::read(&error))
    }

    /// Connects to the first endpoint that answers.
    async fn connect(&self) -> Result<Link, SqlError> {
        let mut failure = no_endpoint();
        for endpoint in &self.address.endpoints {
            match tokio::time::timeout(self.address.connect_timeout, self.connect_to(endpoint)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = SqlError::new(Kind::Unavailable, "the database did not answer in time"),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, endpoint: &Endpoint) -> Result<Link, SqlError> {
        let config = &self.address.config;
        let overflow = Overflow::default();
        let socket = Measured::new(open(endpoint).await?, self.tls.is_some(), Arc::clone(&overflow));
        match self.rustls(endpoint)? {
            Some(tls) => {
                let connected = config.connect_raw(socket, MeasuredTls(tls, Arc::clone(&overflow))).await;
                connected.map(|(client, connection)| self.drive(client, connection))
            }
            None => {
                let connected = config.connect_raw(socket, NoTls).await;
                connected.map(|(client, connection)| self.drive(client, connection))
            }
        }
        .map(|client| Link { client, overflow })
        .map_err(|error| errors::read(&error))
    }

    /// Moves the messages of a connection until it ends. The client reads why it ended.
    fn drive<S, T>(&self, client: Client, connection: Connection<S, T>) -> Client
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %errors::read(&error), "a connection to PostgreSQL ended");
            }
        });
        client
    }

    fn rustls(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<<MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect>, SqlError> {
        let Some(mut maker) = self.tls.clone() else { return Ok(None) };
        let name = match endpoint {
            Endpoint::Tcp(host, _) => host.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        let connector = MakeTlsConnect::<Socket>::make_tls_connect(&mut maker, name);
        connector.map(Some).map_err(|error| SqlError::new(Kind::Unavailable, error.to_string()))
    }
}

fn no_endpoint() -> SqlError {
    SqlError::new(Kind::NotConfigured, "the database has no address")
}

async fn open(endpoint: &Endpoint) -> Result<Socket, SqlError> {
    let opened = match endpoint {
        Endpoint::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(|stream| {
            // Without it a small message waits for more; a failure costs only that.
            stream.set_nodelay(true).ok();
            Socket::Tcp(stream)
        }),
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
    };
    opened
        .map_err(|error| SqlError::new(Kind::Unavailable, format!("the database cannot be reached: {error}")))
}

fn tls(address: &Address) -> Result<ClientConfig, String> {
    proxy::tls::prepare();
    let Some(file) = &address.authority else {
        return ClientConfig::with_platform_verifier().map_err(|error| error.to_string());
    };
    let unreadable =
        |error: &dyn std::fmt::Display| format!("the file of `sslrootcert` cannot be read: {error}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err("the file of `sslrootcert` has no certificate".to_owned());
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

impl Manager for Pooled {
    type Type = Link;
    type Error = SqlError;

    async fn create(&self) -> Result<Link, SqlError> {
        self.0.connect().await
    }

    async fn recycle(&self, link: &mut Link, _: &Metrics) -> RecycleResult<SqlError> {
        match link.client.is_closed() {
            true => Err(RecycleError::message("the connection is closed")),
            false => Ok(()),
        }
    }
}

/// Manager of a pool of connections.
pub struct Pooled(pub Arc<Connector>);
