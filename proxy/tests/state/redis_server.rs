//! A Redis of the test's own: the program of this machine, on a free port, in a temporary directory.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use redis::AsyncConnectionConfig;
use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/redis-server";

/// A server that may be killed and started again; gone with the value.
pub struct RedisServer {
    child: Option<Child>,
    arguments: Vec<String>,
    url: String,
    pub port: u16,
    _directory: TempDir,
}

/// The URL of a Redis that is there for tests, if one is.
pub fn given_url() -> Option<String> {
    read_env("TEST_REDIS_URL").filter(|url| !url.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "a test asks what it may use")]
fn read_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl RedisServer {
    /// Starts one, or says loudly that the test is skipped.
    pub async fn start() -> Option<Self> {
        let port = free_port();
        let arguments = vec!["--port".to_owned(), port.to_string()];
        Self::start_with(arguments, tempfile::tempdir().unwrap(), port, format!("redis://127.0.0.1:{port}"))
            .await
    }

    /// Starts one with a certificate of a new authority, and nothing without TLS.
    pub async fn start_with_tls() -> Option<Self> {
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        write_certificates(directory.path());
        let mut arguments: Vec<String> = ["--port", "0", "--tls-auth-clients", "no"].map(String::from).into();
        arguments.extend(["--tls-port".to_owned(), port.to_string()]);
        arguments.extend(["--tls-cert-file".to_owned(), path("server.pem")]);
        arguments.extend(["--tls-key-file".to_owned(), path("server.key")]);
        arguments.extend(["--tls-ca-cert-file".to_owned(), path("ca.pem")]);
        let url = format!("rediss://localhost:{port}?ca={}", path("ca.pem"));
        Self::start_with(arguments, directory, port, url).await
    }

    /// Starts one with arguments of its own: a replica, a sentinel.
    pub async fn start_as(arguments: Vec<String>, port: u16) -> Option<Self> {
        Self::start_with(arguments, tempfile::tempdir().unwrap(), port, format!("redis://127.0.0.1:{port}"))
            .await
    }

    async fn start_with(arguments: Vec<String>, directory: TempDir, port: u16, url: String) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            let required = read_env("TRUNKLINE_REQUIRE_BACKENDS").is_some_and(|value| value == "1");
            assert!(!required, "TRUNKLINE_REQUIRE_BACKENDS=1, but there is no {PROGRAM}");
            eprintln!("SKIPPED: there is no {PROGRAM} here, so nothing was tested on Redis");
            return None;
        }
        let mut server = Self { child: None, arguments, url, port, _directory: directory };
        server.up().await;
        Some(server)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the program (again) and waits until it answers.
    pub async fn up(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a test starts its own Redis")]
        let mut command = std::process::Command::new(PROGRAM);
        let directory = self._directory.path();
        let configuration = directory.join("sentinel.conf");
        if configuration.exists() || self.arguments.contains(&"--sentinel".to_owned()) {
            std::fs::write(&configuration, "").unwrap();
            command.arg(configuration);
        }
        command.args(&self.arguments).args(["--bind", "127.0.0.1", "--dir"]).arg(directory);
        if !self.arguments.contains(&"--sentinel".to_owned()) {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "Redis did not start on port {}", self.port);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets the program stand still (it keeps its connections and answers nothing), or go on.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.child.as_ref().unwrap().id();
        let signal = if frozen { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends one command by a connection of the test's own.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.unwrap()
    }

    pub async fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url()).unwrap();
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| _ = command.arg(*word));
        command.query_async(&mut connection).await
    }

    pub async fn keys_without_expiry(&self) -> Vec<String> {
        let mut immortal = Vec::new();
        for key in self.command::<Vec<String>>(&["KEYS", "*"]).await {
            if self.command::<i64>(&["PTTL", &key]).await == -1 {
                immortal.push(key);
            }
        }
        immortal
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn write_certificates(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    std::fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(directory.join("server.pem"), server.pem()).unwrap();
    std::fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}
