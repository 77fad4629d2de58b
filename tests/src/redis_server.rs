//! A Redis server of the test process's own: on a free port, keeping nothing, gone with the process.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::guardian;
use crate::postgres::free_port;
use crate::scratch::Scratch;

/// How many databases it has: one for each app of a test process.
pub const DATABASES: u32 = 4096;

/// A running server; ended when dropped.
pub struct RedisServer {
    pub port: u16,
    process: Child,
    directory: Scratch,
}

impl RedisServer {
    pub fn start(program: &Path) -> Result<RedisServer, String> {
        let port = free_port();
        Self::launch(program, port, &["--port", &port.to_string()])
    }

    /// The same behind TLS only.
    pub fn start_with_tls(
        program: &Path,
        certificate: &Path,
        key: &Path,
        authority: &Path,
    ) -> Result<RedisServer, String> {
        let port = free_port();
        let file = |path: &Path| path.display().to_string();
        let (certificate, key, authority) = (file(certificate), file(key), file(authority));
        let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &authority];
        let text = port.to_string();
        let mut arguments = vec!["--port", "0", "--tls-port", &text, "--tls-auth-clients", "no"];
        arguments.extend(tls);
        Self::launch(program, port, &arguments)
    }

    /// Ends the server at once, as a machine that went away; [`RedisServer::start_again`] is its return.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        guardian::forget(self.process.id());
    }

    /// A server on the same port, with nothing in it.
    pub fn start_again(&mut self, program: &Path) -> Result<(), String> {
        *self = Self::launch(program, self.port, &["--port", &self.port.to_string()])?;
        Ok(())
    }

    fn launch(program: &Path, port: u16, arguments: &[&str]) -> Result<RedisServer, String> {
        let directory = Scratch::new("redis");
        let log = std::fs::File::create(directory.join("log")).map_err(|error| error.to_string())?;
        let process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--databases", &DATABASES.to_string()])
            .args(arguments)
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("redis-server could not be started: {error}"))?;
        guardian::watch(process.id());
        let mut server = RedisServer { port, process, directory };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > until {
                let said = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(format!("Redis did not come up ({ended:?}): {said}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
