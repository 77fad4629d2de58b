//! Parser of `REDIS_URL`: server, sentinels, TLS and credentials. Opens no connection.

use std::path::PathBuf;
use std::time::Duration;

use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult, TlsCertificates, TlsMode,
};
use reqwest::Url;

/// Address of Redis, and the time limit of operations.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS, or
    /// `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]` (and
    /// `rediss+sentinel://`), where the credentials are those of the Redis server and
    /// `?sentinelPassword=` is the sentinels'. `?ca=FILE` names the authority of a TLS server.
    pub url: String,
    /// PEM file of the authority that signed the server's certificate; `?ca=` in the URL wins. Without
    /// either, the system's authorities decide.
    pub ca_file: Option<PathBuf>,
    /// Time limit of one operation.
    pub timeout: Duration,
}

impl RedisSettings {
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ca_file: None, timeout: Duration::from_secs(1) }
    }
}

/// A malformed Redis URL. Never contains the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRedisUrl {
    #[error(
        "the Redis URL is not of the form redis://, rediss:// or redis+sentinel://host[,host]/service: {0}"
    )]
    Form(String),
    #[error("the Redis URL has the parameter {0:?}; known are ca, protocol, sentinelPassword, sentinelUser")]
    Parameter(String),
    #[error("a Redis CA file is only of use with rediss:// or rediss+sentinel://")]
    AuthorityWithoutTls,
    #[error("the Redis CA file {path} cannot be read: {source}")]
    Authority { path: PathBuf, source: std::io::Error },
    #[error("the Redis CA file {path} has no certificate in PEM form")]
    NoCertificate { path: PathBuf },
}

/// Address of the master, as far as known without a query.
pub(super) enum Source {
    Server(Client),
    /// Sentinels, queried before each connection, since the master moves.
    Sentinels(tokio::sync::Mutex<SentinelClient>),
}

impl Source {
    /// Reads the settings and the CA file. Opens no connection.
    pub fn parse(settings: &RedisSettings) -> Result<Self, InvalidRedisUrl> {
        let address = Address::parse(settings)?;
        let source = if address.service.is_some() { address.sentinels() } else { address.server() };
        source.map_err(|error| InvalidRedisUrl::Form(error.to_string()))
    }

    /// Returns the client of the present master.
    pub async fn client(&self) -> RedisResult<Client> {
        match self {
            Source::Server(client) => Ok(client.clone()),
            Source::Sentinels(sentinels) => sentinels.lock().await.async_get_client().await,
        }
    }
}

/// Parts of a URL.
struct Address {
    tls: bool,
    hosts: Vec<(String, u16)>,
    /// URL without our own parameters, with one host, for the client library.
    plain: Url,
    /// The sentinels' name for the group of servers.
    service: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
    authority: Option<TlsCertificates>,
}

impl Address {
    fn parse(settings: &RedisSettings) -> Result<Self, InvalidRedisUrl> {
        let form = |what: &str| InvalidRedisUrl::Form(what.to_owned());
        let (scheme, rest) = settings.url.split_once("://").ok_or_else(|| form("it has no scheme"))?;
        let (tls, by_sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            other => return Err(form(&format!("the scheme {other}:// is not known"))),
        };
        // A URL has one host, so the further sentinels are cut out before parsing.
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (before_hosts, hosts) = match rest[..end].rfind('@') {
            Some(at) => rest.split_at(at + 1),
            None => ("", rest),
        };
        let (hosts, path) = hosts.split_at(hosts.find(['/', '?', '#']).unwrap_or(hosts.len()));
        let default_port = if by_sentinel { 26379 } else { 6379 };
        let listed: Vec<&str> = hosts.split(',').collect();
        if listed.len() > 1 && !by_sentinel {
            return Err(form("several hosts are for redis+sentinel:// only"));
        }
        let scheme = if tls { "rediss" } else { "redis" };
        let parse_url = |text: &str| Url::parse(text).map_err(|error| form(&error.to_string()));
        let mut plain = parse_url(&format!("{scheme}://{before_hosts}{}{path}", listed[0]))?;
        let mut hosts = Vec::new();
        for host in listed {
            let url = parse_url(&format!("{scheme}://{host}"))?;
            let name =
                url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| form("a host is empty"))?;
            let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            hosts.push((name, url.port().unwrap_or(default_port)));
        }

        let mut authority_file = settings.ca_file.clone();
        let (mut sentinel_user, mut sentinel_password, mut kept) = (None, None, Vec::new());
        for (name, value) in plain.query_pairs().into_owned().collect::<Vec<_>>() {
            match name.as_str() {
                "ca" => authority_file = Some(value.into()),
                "sentinelUser" => sentinel_user = Some(value),
                "sentinelPassword" => sentinel_password = Some(value),
                "protocol" => kept.push((name, value)),
                _ => return Err(InvalidRedisUrl::Parameter(name)),
            }
        }
        plain.set_query(None);
        if !kept.is_empty() {
            plain.query_pairs_mut().extend_pairs(kept);
        }
        let service = by_sentinel
            .then(|| {
                let path = plain.path().trim_matches('/').to_owned();
                let (service, db) = path.split_once('/').unwrap_or((&path, ""));
                plain.set_path(db);
                (!service.is_empty())
                    .then(|| service.to_owned())
                    .ok_or_else(|| form("the service is missing"))
            })
            .transpose()?;
        let authority = authority_file.map(read_authority).transpose()?;
        if authority.is_some() && !tls {
            return Err(InvalidRedisUrl::AuthorityWithoutTls);
        }
        Ok(Self { tls, hosts, plain, service, sentinel_user, sentinel_password, authority })
    }

    fn server(self) -> RedisResult<Source> {
        let target = self.plain.as_str().into_connection_info()?;
        Ok(Source::Server(match self.authority {
            Some(authority) => Client::build_with_tls(target, authority)?,
            None => Client::open(target)?,
        }))
    }

    fn sentinels(self) -> RedisResult<Source> {
        let target: ConnectionInfo = self.plain.as_str().into_connection_info()?;
        let nodes = self.hosts.into_iter().map(|(host, port)| {
            if self.tls {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            }
        });
        let service = self.service.unwrap_or_default();
        let mut builder = SentinelClientBuilder::new(nodes, service, SentinelServerType::Master)?
            .set_client_to_redis_db(target.redis_settings().db())
            .set_client_to_redis_protocol(target.redis_settings().protocol());
        if let Some(user) = target.redis_settings().username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = target.redis_settings().password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = self.sentinel_user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = self.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if self.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(authority) = self.authority {
            builder = builder
                .set_client_to_redis_certificates(authority.clone())
                .set_client_to_sentinel_certificates(authority);
        }
        Ok(Source::Sentinels(tokio::sync::Mutex::new(builder.build()?)))
    }
}

fn read_authority(path: PathBuf) -> Result<TlsCertificates, InvalidRedisUrl> {
    match std::fs::read(&path) {
        Ok(pem) if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") => {
            Err(InvalidRedisUrl::NoCertificate { path })
        }
        Ok(pem) => Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) }),
        Err(source) => Err(InvalidRedisUrl::Authority { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, InvalidRedisUrl> {
        Address::parse(&RedisSettings::new(url))
    }

    #[test]
    fn one_server() {
        let address = parse("redis://user:p%40ss@[::1]:7000/3?protocol=resp3").unwrap();
        assert_eq!(address.hosts, [("::1".to_owned(), 7000)]);
        assert_eq!(address.plain.as_str(), "redis://user:p%40ss@[::1]:7000/3?protocol=resp3");
        assert!(matches!(Source::parse(&RedisSettings::new("redis://localhost")), Ok(Source::Server(_))));
    }

    #[test]
    fn several_sentinels() {
        let address = parse("redis+sentinel://:pw@a,b:1,c/main/2?sentinelPassword=x").unwrap();
        let hosts: Vec<_> = address.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        assert_eq!(hosts, ["a:26379", "b:1", "c:26379"]);
        assert_eq!(address.service.as_deref(), Some("main"));
        assert_eq!(address.plain.as_str(), "redis://:pw@a/2");
        assert_eq!(address.sentinel_password.as_deref(), Some("x"));
        assert!(matches!(address.sentinels().unwrap(), Source::Sentinels(_)));
        assert!(parse("rediss+sentinel://a/main").unwrap().sentinels().is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, part) in [
            ("http://h", "scheme http://"),
            ("localhost:6379", "no scheme"),
            ("redis://:secret@a,b", "several hosts"),
            ("redis+sentinel://:secret@a", "service is missing"),
            ("redis://:secret@h/?cafile=x", "cafile"),
            ("redis://:secret@h/?ca=/nowhere.pem", "/nowhere.pem"),
            ("redis://:secret@h/notanumber", "database number"),
        ] {
            let error = Source::parse(&RedisSettings::new(url)).err().expect(url).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
