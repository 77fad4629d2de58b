//! A Redis server of the test process's own: on a free port, keeping nothing, gone with the process.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::guardian;
use crate::postgres::free_port;
use crate::proc;
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

    /// A server on a free port with further arguments, such as `--replicaof` or `--sentinel`.
    pub fn start_with(program: &Path, further: &[&str]) -> Result<RedisServer, String> {
        let port = free_port();
        let text = port.to_string();
        Self::launch(program, port, &[&["--port", text.as_str()], further].concat())
    }

    /// A sentinel alone, which watches the master at this port as `main` and takes it for dead after a
    /// second.
    pub fn start_sentinel(program: &Path, master: &str) -> Result<RedisServer, String> {
        let directory = Scratch::new("sentinel");
        let file = directory.join("sentinel.conf");
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} 1\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\nbind 127.0.0.1\n"
        );
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        let port = free_port();
        let mut command = Command::new(program);
        command.arg(&file).args(["--sentinel", "--port", &port.to_string()]);
        Self::wait_for(command, port, directory)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Stops the process without ending it: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        proc::signal(self.process.id(), Signal::STOP);
    }

    pub fn thaw(&self) {
        proc::signal(self.process.id(), Signal::CONT);
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
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--databases", &DATABASES.to_string()])
            .args(arguments);
        Self::wait_for(command, port, Scratch::new("redis"))
    }

    fn wait_for(mut command: Command, port: u16, directory: Scratch) -> Result<RedisServer, String> {
        let log = std::fs::File::create(directory.join("log")).map_err(|error| error.to_string())?;
        let process = command
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
