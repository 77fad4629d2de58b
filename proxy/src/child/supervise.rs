//! Supervisor of one child: waits for the end of the child or the gateway, and then ends every process
//! below itself. One thread, no runtime, no data: one small process.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::descendants;
use super::ending::{Ending, Needed};
use super::options::Options;
use super::spawn::spawn_child;

/// Runs the command until it or the gateway is gone, and leaves nothing behind.
pub fn run(options: &Options) -> Result<u8, String> {
    let signals = Signals::install().map_err(|e| format!("no signal handlers: {e}"))?;
    set_child_subreaper(Some(getpid())).map_err(|e| format!("cannot become a subreaper: {e}"))?;
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|e| format!("no death signal: {e}"))?;
    if options.parent.is_some() && getppid().map(|pid| pid.as_raw_pid()) != options.parent {
        return Err("the gateway is gone".to_owned());
    }
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("no control socket: {e}"))?;
    let [stdin, stdout] = receive_pipes(&control)?;
    let mut control = UnixStream::from(control);
    control.set_nonblocking(true).map_err(|e| format!("no control socket: {e}"))?;

    let child = spawn_child(options, stdin, stdout).map_err(|e| format!("cannot start a process: {e}"))?;
    let mut watch = Watch { child: Pid::from_child(&child), ending: None, signals };
    tell(&mut control, &format!("pid {}\n", child.id()));
    watch.until_over(&mut control);
    if let Some(line) = watch.ending.and_then(Ending::to_line) {
        tell(&mut control, &line);
    }
    let known = watch.ending.is_some();
    let needed = watch.end_all(options.grace.unwrap_or(Duration::from_secs(1)));
    if let Some(line) = needed.to_line() {
        tell(&mut control, &line);
    }
    if let (false, Some(line)) = (known, watch.ending.and_then(Ending::to_line)) {
        tell(&mut control, &line);
    }
    Ok(watch.ending.unwrap_or(Ending::Lost).code())
}

/// Writes a line to the gateway, which may be gone already.
fn tell(control: &mut UnixStream, line: &str) {
    control.write_all(line.as_bytes()).ok();
}

/// Takes the child's standard input and output from the first message of the gateway.
fn receive_pipes(control: &OwnedFd) -> Result<[OwnedFd; 2], String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [io::IoSliceMut::new(&mut byte)];
    recvmsg(control, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|e| format!("standard input is not the gateway's control socket: {e}"))?;
    let pipes: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(pipes) => Some(pipes),
            _ => None,
        })
        .flatten()
        .collect();
    pipes.try_into().map_err(|_| "the gateway went before it passed the pipes".to_owned())
}

/// Signals as bytes that wake the poll, with a flag for an order to end.
struct Signals {
    woken: UnixStream,
    end: Arc<AtomicBool>,
}

impl Signals {
    fn install() -> io::Result<Signals> {
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let end = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::flag::register(signal, end.clone())?;
        }
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, wake.try_clone()?)?;
        }
        Ok(Signals { woken, end })
    }

    fn drain(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.woken.read(&mut bytes), Ok(1..)) {}
    }
}

struct Watch {
    child: Pid,
    ending: Option<Ending>,
    signals: Signals,
}

impl Watch {
    /// Waits until the child ended, the gateway went or closed the socket, or a signal arrives.
    fn until_over(&mut self, control: &mut UnixStream) {
        loop {
            self.reap();
            if self.ending.is_some() || self.signals.end.load(Ordering::SeqCst) {
                return;
            }
            let mut polled =
                [PollFd::new(control, PollFlags::IN), PollFd::new(&self.signals.woken, PollFlags::IN)];
            // An interrupted wait is a wake-up like any other.
            poll(&mut polled, None).ok();
            self.signals.drain();
            let mut bytes = [0; 64];
            match control.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Collects every ended process, the child's own and re-parented ones.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.child {
                self.ending = Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ending::Exited(code),
                    (None, Some(number)) => Ending::Signalled(number),
                    (None, None) => Ending::Lost,
                });
            }
        }
    }

    /// Sends SIGTERM to all, waits, and sends SIGKILL until nothing is left. Processes that fork faster
    /// than they are found survive after 10 s, so that this process ends in any case.
    fn end_all(&mut self, grace: Duration) -> Needed {
        let mut needed = Needed::Nothing;
        if descendants::signal_all(Signal::TERM) > 0 {
            needed = Needed::Terminate;
            let patience = Instant::now() + grace;
            while Instant::now() < patience && !descendants::living().is_empty() {
                self.pause(Duration::from_millis(20));
            }
        }
        let patience = Instant::now() + Duration::from_secs(10);
        while Instant::now() < patience {
            self.reap();
            if descendants::signal_all(Signal::KILL) == 0 {
                break;
            }
            needed = Needed::Kill;
            if self.ending.is_none() {
                kill_process_group(self.child, Signal::KILL).ok();
            }
            self.pause(Duration::from_millis(5));
        }
        self.reap();
        needed
    }

    /// Waits for a process to end, at most this long.
    fn pause(&mut self, time: Duration) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.signals.woken, PollFlags::IN)], Some(&timeout)).ok();
        self.signals.drain();
        self.reap();
    }
}
