//! TCP or TLS connection for WebSocket, to a checked address, with the certificate authorities of the HTTP
//! clients.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::resolver::resolve;
use super::{Egress, EgressError, host, origin};

/// An open connection, plain or with TLS.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Egress {
    /// Connects to the host of a `ws://` or `wss://` URL, within the time-out for connecting.
    pub async fn connect(&self, url: &Url) -> Result<Box<dyn Socket>, EgressError> {
        let secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            other => return Err(EgressError::Scheme(other.to_owned())),
        };
        let host = host(url);
        let late =
            |_| EgressError::Unreachable { host: host.clone(), reason: "no connection in time".to_owned() };
        let connecting = async {
            let stream = self.reach(url).await?;
            if secure { self.secure(url, stream).await } else { Ok(Box::new(stream) as Box<dyn Socket>) }
        };
        tokio::time::timeout(self.inner.settings.connect_timeout, connecting).await.map_err(late)?
    }

    async fn reach(&self, url: &Url) -> Result<TcpStream, EgressError> {
        let trusted = self.inner.origins.contains(&origin(url));
        let guard = (!trusted).then_some(&self.inner.guard);
        if let Some(guard) = guard {
            guard.check_url(url)?;
        }
        let host = host(url);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![(address, port).into()],
            Err(_) => resolve(guard, bare, port).await?,
        };
        let mut reason = String::new();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(EgressError::Unreachable { host, reason })
    }

    async fn secure(&self, url: &Url, stream: TcpStream) -> Result<Box<dyn Socket>, EgressError> {
        let host = host(url);
        let config = self.inner.tls.get_or_init(|| {
            crate::tls::prepare();
            ClientConfig::with_platform_verifier().map(Arc::new).map_err(|error| error.to_string())
        });
        let config = config.as_ref().map_err(|reason| EgressError::Client(reason.clone()))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| EgressError::NotUrl(host.clone()))?;
        let secured = TlsConnector::from(config.clone()).connect(name, stream).await;
        let failed = |error: std::io::Error| EgressError::Unreachable { host, reason: error.to_string() };
        Ok(Box::new(secured.map_err(failed)?))
    }
}
