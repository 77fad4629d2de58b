//! Programs that the benchmark runs: started in a directory of their own, their output in a file, and
//! never left behind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::proc;

use crate::keeper::Keeper;

/// How long a program may take to say where it listens.
const START: Duration = Duration::from_secs(20);

/// Where everything of one benchmark lies, and who ends it.
pub struct Place {
    keeper: Keeper,
    directory: PathBuf,
}

impl Place {
    pub fn make() -> Result<Place, String> {
        let directory = std::env::temp_dir().join(format!("trunkline-benchmark-{}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let keeper =
            Keeper::start(&directory).map_err(|error| format!("the keeper does not start: {error}"))?;
        Ok(Place { keeper, directory })
    }

    /// A directory in it, made when it is not there.
    pub fn directory(&self, name: &str) -> Result<PathBuf, String> {
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(directory)
    }

    /// Starts one of this program's own roles and waits until it listens.
    pub fn start_role(&self, role: &str) -> Result<(Program<'_>, SocketAddr), String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(own);
        command.arg(role);
        let program = self.start(command, role)?;
        let address = program.wait_for(|line| line.parse().ok())?;
        Ok((program, address))
    }

    /// Starts a program with its output in the file `NAME.log`.
    pub fn start(&self, mut command: Command, name: &str) -> Result<Program<'_>, String> {
        let log = self.directory.join(format!("{name}.log"));
        let failed = |error: std::io::Error| format!("{name} does not start: {error}");
        let output = std::fs::File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(failed)?;
        self.keeper.watch(child.id());
        Ok(Program { child, log, keeper: &self.keeper, ended: false })
    }
}

/// A running program; it is killed when this is dropped.
pub struct Program<'a> {
    child: Child,
    log: PathBuf,
    keeper: &'a Keeper,
    ended: bool,
}

impl Program<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its output that says something; the error shows the output.
    pub fn wait_for<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        let until = Instant::now() + START;
        loop {
            let output = std::fs::read_to_string(&self.log).unwrap_or_default();
            // A line is read when it is whole.
            let lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(said) = lines.map(str::trim_end).find_map(&read) {
                return Ok(said);
            }
            if Instant::now() > until || !proc::is_running(self.pid()) {
                return Err(format!("{} did not come up:\n{}", self.name(), self.last_lines()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it wrote last.
    pub fn last_lines(&self) -> String {
        let output = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end and waits for that; the time it took.
    pub fn stop(mut self, at_most: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        proc::signal(self.pid(), Signal::TERM);
        while begun.elapsed() < at_most {
            if self.try_wait().is_some() {
                return Ok(begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("{} did not stop within {at_most:?}:\n{}", self.name(), self.last_lines()))
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        self.keeper.forget(self.child.id());
        self.ended = true;
        Some(status)
    }

    fn name(&self) -> String {
        self.log.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.keeper.forget(self.child.id());
        }
    }
}

/// The bytes that a directory's files take.
pub fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
