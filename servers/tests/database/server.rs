//! The PostgreSQL of the tests: a given one, or one that this process starts on a free port, in a temporary
//! directory, as an unprivileged user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const CERTIFICATE: &str = "server.crt";

/// Longest life of a server whose test process is gone.
const LONGEST: &str = "900";

static STARTED: OnceLock<Result<String, String>> = OnceLock::new();
static RUNNING: parking_lot::Mutex<Option<Running>> = parking_lot::Mutex::new(None);

struct Running {
    child: Child,
    directory: tempfile::TempDir,
}

/// Returns the reason why there is no PostgreSQL.
pub fn missing() -> Option<String> {
    let is_there = given().is_some() || programs().is_some();
    (!is_there)
        .then(|| "TEST_DATABASE_URL is not set, and `initdb` of PostgreSQL is not installed".to_owned())
}

/// Returns the address of a superuser's database, without its name.
pub fn address() -> String {
    STARTED.get_or_init(|| given().map_or_else(start, Ok)).clone().expect("PostgreSQL is there")
}

/// Ends what was started.
pub fn stop() {
    if let Some(mut running) = RUNNING.lock().take() {
        // `timeout` passes the signal on.
        let _ = Command::new("kill").args(["-QUIT", &running.child.id().to_string()]).status();
        let _ = running.child.wait();
    }
}

/// Returns the file of the authority that signed the server's certificate; none for a given server.
pub fn authority() -> Option<PathBuf> {
    address();
    RUNNING.lock().as_ref().map(|running| running.directory.path().join("data").join(CERTIFICATE))
}

/// Returns true if TLS can be tried: a given server's certificate is not known.
pub fn is_own() -> bool {
    given().is_none()
}

fn given() -> Option<String> {
    let url = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())?;
    let (plain, _) = url.split_once('?').unwrap_or((&url, ""));
    let host = plain.find("://")? + 3;
    let end = plain[host..].find('/').map_or(plain.len(), |at| host + at);
    Some(plain[..end].to_owned())
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<_> =
        versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop()
}

fn start() -> Result<String, String> {
    let programs = programs().ok_or("no programs")?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let owner = owner()?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(directory.path(), Some(user), Some(group))
            .map_err(|error| error.to_string())?;
    }
    let data = directory.path().join("data");
    let mut initdb = command(&programs.join("initdb"), owner);
    initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=boss"]);
    let made = initdb.arg("--pgdata").arg(&data).output().map_err(|error| error.to_string())?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned());
    }
    for (name, text) in certificate() {
        let file = data.join(name);
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| error.to_string())?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&file, Some(user), Some(group)).map_err(|error| error.to_string())?;
        }
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())?
        .port();
    let sockets = directory.path().display().to_string();
    let mut postgres = command(Path::new("timeout"), owner);
    postgres.args(["--signal=QUIT", LONGEST]).arg(programs.join("postgres")).arg("-D").arg(&data);
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        format!("unix_socket_directories={sockets}"),
        "fsync=off".into(),
        "ssl=on".into(),
        "max_connections=60".into(),
    ] {
        postgres.args(["-c", &setting]);
    }
    let log = std::fs::File::create(directory.path().join("log")).map_err(|error| error.to_string())?;
    let child = postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
    let child = child.map_err(|error| error.to_string())?;
    let log = directory.path().join("log");
    *RUNNING.lock() = Some(Running { child, directory });
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if std::fs::read_to_string(&log).unwrap_or_default().contains("ready to accept connections") {
            return Ok(format!("postgres://boss@127.0.0.1:{port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("PostgreSQL did not come up: {}", std::fs::read_to_string(&log).unwrap_or_default()))
}

/// Returns a certificate for this machine that signs itself, and its key.
fn certificate() -> [(&'static str, String); 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    [(CERTIFICATE, made.cert.pem()), ("server.key", made.signing_key.serialize_pem())]
}

/// Returns the user to run as; PostgreSQL refuses root.
fn owner() -> Result<Option<(u32, u32)>, String> {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid();
    if own != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let line = |name: &str| users.lines().find(|line| line.split(':').next() == Some(name));
    let line = line("postgres").or_else(|| line("nobody")).ok_or("there is no user to run PostgreSQL as")?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok(Some((user, group))),
        _ => Err("the user of PostgreSQL has no number".to_owned()),
    }
}

fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}
