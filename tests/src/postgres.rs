//! A PostgreSQL server of the test process's own: on a free port, in a temporary directory, as an
//! unprivileged user (it refuses to run as root), gone with the process.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::guardian;
use crate::proc;
use crate::scratch::Scratch;

/// The one user of the server; it is asked for no password on this machine's loopback.
const USER: &str = "trunkline";

/// A running server; ended when dropped.
pub struct PostgresServer {
    pub port: u16,
    process: std::process::Child,
    /// None only while it is handed to the next start.
    directory: Option<Scratch>,
}

impl PostgresServer {
    /// `programs` holds `initdb` and `postgres`; `further` are lines of its configuration.
    pub fn start(programs: &Path, further: &[&str]) -> Result<PostgresServer, String> {
        Self::start_with_files(programs, further, &[])
    }

    /// The same with files that only its user may read, placed into its directory.
    pub fn start_with_files(
        programs: &Path,
        further: &[&str],
        files: &[(&str, &Path)],
    ) -> Result<PostgresServer, String> {
        let directory = Scratch::new("postgres");
        let owner = unprivileged_user()?;
        give_to(directory.path(), owner)?;
        let data = directory.join("data");
        let mut initdb = as_user(&programs.join("initdb"), owner, directory.path());
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER]);
        succeed(initdb.arg("--pgdata").arg(&data).output())?;
        for (name, source) in files {
            place(source, &data.join(name), owner)?;
        }
        let port = free_port();
        let mut lines = vec![
            format!("port = {port}"),
            "listen_addresses = '127.0.0.1'".into(),
            format!("unix_socket_directories = '{}'", directory.path().display()),
            "max_connections = 400".into(),
            "shared_buffers = 64MB".into(),
            // Nothing here has to survive the machine.
            "fsync = off".into(),
            "synchronous_commit = off".into(),
            "full_page_writes = off".into(),
        ];
        lines.extend(further.iter().map(|line| (*line).to_owned()));
        let settings = data.join("postgresql.auto.conf");
        std::fs::write(&settings, lines.join("\n") + "\n").map_err(|error| error.to_string())?;
        Self::launch(programs, port, owner, directory)
    }

    /// Starts the server on a directory that is prepared.
    fn launch(
        programs: &Path,
        port: u16,
        owner: Option<(u32, u32)>,
        directory: Scratch,
    ) -> Result<PostgresServer, String> {
        let data = directory.join("data");
        let log = std::fs::File::create(directory.join("log")).map_err(|error| error.to_string())?;
        let process = as_user(&programs.join("postgres"), owner, directory.path())
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("postgres could not be started: {error}"))?;
        guardian::watch(process.id());
        let mut server = PostgresServer { port, process, directory: Some(directory) };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once, as a machine that went away: no connection is closed in order.
    pub fn stop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // A frozen one takes no other signal.
        self.thaw();
        proc::signal(self.process.id(), Signal::QUIT);
        let _ = self.process.wait();
        guardian::forget(self.process.id());
    }

    /// The stopped server on the same port with the same rows.
    pub fn start_again(&mut self, programs: &Path) -> Result<(), String> {
        let directory = self.directory.take().expect("it is there between two starts");
        *self = Self::launch(programs, self.port, unprivileged_user()?, directory)?;
        Ok(())
    }

    /// Stops all its processes without ending them.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let own = self.process.id();
        // The first one starts the others: it goes first, so that none is missed.
        proc::signal(own, signal);
        proc::children_of(own).into_iter().for_each(|child| proc::signal(child, signal));
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(30);
        let log = self.directory.as_ref().map(|directory| directory.join("log")).unwrap_or_default();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("ready to accept connections") {
                return Ok(());
            }
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > until {
                return Err(format!("PostgreSQL did not come up ({ended:?}): {said}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// The user and group to run as: none when we are not root.
fn unprivileged_user() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2);
            Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        })
        .map(Some)
        .ok_or("running as root, and there is neither a user `postgres` nor `nobody` to run as".to_owned())
}

fn give_to(path: &Path, owner: Option<(u32, u32)>) -> Result<(), String> {
    let Some((user, group)) = owner else { return Ok(()) };
    std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(|error| error.to_string())
}

fn place(source: &Path, target: &PathBuf, owner: Option<(u32, u32)>) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::copy(source, target).map_err(|error| error.to_string())?;
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())?;
    give_to(target, owner)
}

fn as_user(program: &Path, owner: Option<(u32, u32)>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env("TMPDIR", directory).env("HOME", directory);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

fn succeed(output: std::io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
