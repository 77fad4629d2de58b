//! Address of a PostgreSQL database: a URL with its options. Every option that is given is used, or refused by
//! name; no error repeats the URL, which has the password.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Time limit of a connection's start, unless the URL has `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options that the driver reads from the URL.
const OPTIONS: [&str; 8] = [
    "sslmode",
    "connect_timeout",
    "application_name",
    "options",
    "user",
    "password",
    "dbname",
    "channel_binding",
];

/// Endpoint and settings of a database.
#[derive(Clone)]
pub struct Address {
    pub config: Config,
    pub endpoints: Vec<Endpoint>,
    /// PEM file of the authority that signed the server's certificate; else those of this machine count.
    pub authority: Option<PathBuf>,
    pub connect_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…&sslrootcert=FILE`.
    ///
    /// # Errors
    /// The part that cannot be read or used.
    pub fn read(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("the URL does not begin with postgres://".to_owned());
        }
        let (plain, options) = url.split_once('?').unwrap_or((url, ""));
        let (mut kept, mut authority, mut has_mode) = (Vec::new(), None, false);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match (name, value) {
                ("sslrootcert", file) => {
                    let file = percent_decode_str(file).decode_utf8();
                    authority = Some(PathBuf::from(file.map_err(|_| "`sslrootcert` is no path")?.as_ref()));
                }
                // The certificate is always verified, and its name too.
                ("sslmode", "require" | "verify-ca" | "verify-full") => {
                    has_mode = true;
                    kept.push("sslmode=require");
                }
                ("sslmode", "disable" | "prefer") => {
                    has_mode = true;
                    kept.push(option);
                }
                ("sslmode", _) => return Err("`sslmode` must be disable, prefer or require".to_owned()),
                (name, _) if OPTIONS.contains(&name) => kept.push(option),
                (name, _) => return Err(format!("the option `{name}` of the URL is not supported")),
            }
        }
        let mut config: Config =
            format!("{plain}?{}", kept.join("&")).parse().map_err(|error| mistake(&error))?;
        if config.get_user().is_none() {
            return Err("the URL names no user: postgres://USER:PASSWORD@HOST/DATABASE".to_owned());
        }
        if config.get_dbname().is_none() {
            return Err("the URL names no database: postgres://USER:PASSWORD@HOST/DATABASE".to_owned());
        }
        let endpoints = endpoints(&config)?;
        if !has_mode && endpoints.iter().all(Endpoint::is_on_this_machine) {
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_application_name().is_none() {
            config.application_name("trunkline");
        }
        let connect_timeout = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        Ok(Self { config, endpoints, authority, connect_timeout })
    }

    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }
}

impl Endpoint {
    fn is_on_this_machine(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp(host, _) => {
                host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }
}

/// Returns the driver's sentence and its cause, which name options and no values.
fn mistake(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!(
        "the URL is no address of a PostgreSQL database{cause}; write postgres://USER:PASSWORD@HOST/DATABASE"
    )
}

fn endpoints(config: &Config) -> Result<Vec<Endpoint>, String> {
    let hosts = config.get_hosts();
    let ports = config.get_ports();
    if hosts.is_empty() {
        return Err("the URL names no host: postgres://USER:PASSWORD@HOST/DATABASE".to_owned());
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err("the URL has more or fewer ports than hosts".to_owned());
    }
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let endpoint = |(index, host): (usize, &Host)| match host {
        Host::Tcp(name) => Endpoint::Tcp(name.clone(), port(index)),
        Host::Unix(folder) => Endpoint::Unix(folder.join(format!(".s.PGSQL.{}", port(index)))),
    };
    Ok(hosts.iter().enumerate().map(endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_mistakes_are_named_without_the_password() {
        let address =
            Address::read("postgresql://ro:s%40crt@db.example:6432/shop?connect_timeout=3").unwrap();
        assert_eq!(address.endpoints, [Endpoint::Tcp("db.example".into(), 6432)]);
        assert_eq!((address.user(), address.database()), ("ro", "shop"));
        assert_eq!(address.config.get_password(), Some(&b"s@crt"[..]));
        assert_eq!(address.connect_timeout, Duration::from_secs(3));
        assert_eq!(address.config.get_ssl_mode(), SslMode::Prefer);
        let local = Address::read("postgres://ro@127.0.0.1/shop").unwrap();
        assert_eq!(local.config.get_ssl_mode(), SslMode::Disable);
        let full =
            Address::read("postgres://ro@127.0.0.1/shop?sslmode=verify-full&sslrootcert=/a%20b.pem").unwrap();
        assert_eq!((full.config.get_ssl_mode(), full.authority), (SslMode::Require, Some("/a b.pem".into())));
        let socket = Address::read("postgres://ro@%2Frun%2Fpostgresql:5433/shop").unwrap();
        assert_eq!(socket.endpoints, [Endpoint::Unix("/run/postgresql/.s.PGSQL.5433".into())]);
        for (url, part) in [
            ("postgres://ro:hunter2@h/shop?sslmode=allow", "`sslmode` must be"),
            ("postgres://ro:hunter2@h/shop?keepalives=0", "option `keepalives`"),
            ("postgres://ro:hunter2@h/shop?target_session_attrs=any", "option `target_session_attrs`"),
            ("postgres://ro:hunter2@h:port/shop", "`port`"),
            ("postgres://ro:hunter2@h", "no database"),
            ("postgres://h/shop", "no user"),
            ("postgres://ro:hunter2@/shop", "no host"),
            ("mysql://ro:hunter2@h/shop", "does not begin with postgres://"),
            ("host=h user=ro password=hunter2 dbname=shop", "does not begin with postgres://"),
        ] {
            let error = Address::read(url).err().expect(url);
            assert!(error.contains(part) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
