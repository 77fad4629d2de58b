//! Write-ahead journal: append-only files that hold every begin until the database has it. Knows files and
//! frames; does not know the database. The journal is also the queue to the feeder, so that one short lock
//! covers both.
//!
//! Each of a few lanes has its own file, so that two threads seldom meet and a thread preempted inside the
//! lock stops nobody. A file is sealed at [`SEGMENT_BYTES`], or when idle, and deleted when the database
//! has all its begins: mostly before the kernel has written the file to the disk at all.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use parking_lot::{Mutex, MutexGuard};

use super::frame;
use super::shared::Entry;

const LANES: usize = 4;
const SEGMENT_BYTES: u64 = 1 << 20;
/// Capacity up to which a lane's buffer is kept after a large frame.
const BUFFER_KEPT: usize = 16 << 10;

pub(super) struct Journal {
    dir: PathBuf,
    /// Flag of writes to files; false under strict durability, where the journal is only the queue.
    writes: bool,
    /// Flag that keeps written files for [`Journal::sync_unsynced`].
    syncs: bool,
    unsynced: AtomicBool,
    /// Thread woken by the first write after a sync.
    syncer: OnceLock<Thread>,
    lanes: [Mutex<Lane>; LANES],
    next_number: AtomicU64,
    bytes: AtomicU64,
    sealed: Mutex<Vec<Sealed>>,
}

/// An entry with the number of the file that holds its begin.
pub(super) struct Queued {
    pub entry: Arc<Entry>,
    /// Number of the file, or 0 when no file holds the begin.
    pub segment: u64,
}

/// A file that gets no more frames.
struct Sealed {
    number: u64,
    records: u64,
    bytes: u64,
    file: Option<Arc<File>>,
}

#[derive(Default)]
struct Lane {
    queue: Vec<Queued>,
    active: Option<Segment>,
    buffer: Vec<u8>,
}

struct Segment {
    number: u64,
    file: Arc<File>,
    records: u64,
    bytes: u64,
}

impl Journal {
    /// Opens a journal in `dir`, which exists. New files are numbered from `first_number`, which is not 0.
    pub fn new(dir: &Path, writes: bool, syncs: bool, first_number: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            writes,
            syncs,
            unsynced: AtomicBool::new(false),
            syncer: OnceLock::new(),
            lanes: Default::default(),
            next_number: AtomicU64::new(first_number),
            bytes: AtomicU64::new(0),
            sealed: Mutex::default(),
        }
    }

    /// Writes an entry to a file and queues it for the feeder; returns the queue length of its lane. After
    /// an error the entry is neither written nor queued.
    pub fn append(&self, entry: Arc<Entry>) -> io::Result<usize> {
        let mut lane = self.lane();
        let lane = &mut *lane;
        let segment = if self.writes { self.write(lane, &entry)? } else { 0 };
        lane.queue.push(Queued { entry, segment });
        Ok(lane.queue.len())
    }

    /// Writes an entry that the feeder already holds once more, with its end, since the database could be
    /// away for longer than this process lives. Returns the number of the file.
    pub fn append_whole(&self, entry: &Entry) -> io::Result<u64> {
        let mut lane = self.lane();
        if self.writes { self.write(&mut lane, entry) } else { Ok(0) }
    }

    /// Moves all queued entries to the end of `into`.
    pub fn drain(&self, into: &mut Vec<Queued>) {
        for lane in &self.lanes {
            // The lane gets an empty list with room, so that the next begins seldom allocate.
            let capacity = lane.lock().queue.len();
            let mut taken = Vec::with_capacity(capacity);
            std::mem::swap(&mut taken, &mut lane.lock().queue);
            into.append(&mut taken);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.lock().queue.is_empty())
    }

    /// Returns the bytes in all files.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Seals the files in use, so that they can be deleted when their begins are stored.
    pub fn seal(&self) {
        for lane in &self.lanes {
            let active = lane.lock().active.take();
            self.push_sealed(active);
        }
    }

    /// Deletes sealed files of which `stored` counts every record, and forgets their counts.
    pub fn delete_stored(&self, stored: &mut std::collections::HashMap<u64, u64>) {
        let done: Vec<Sealed> = self
            .sealed
            .lock()
            .extract_if(.., |sealed| stored.get(&sealed.number).copied().unwrap_or(0) >= sealed.records)
            .collect();
        for sealed in done {
            stored.remove(&sealed.number);
            self.bytes.fetch_sub(sealed.bytes, Ordering::Relaxed);
            let path = path(&self.dir, sealed.number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a stored journal file cannot be deleted");
            }
        }
    }

    pub fn set_syncer(&self, syncer: Thread) {
        // A journal has one syncer; a second one has nothing to do.
        let _ = self.syncer.set(syncer);
    }

    pub fn wake_syncer(&self) {
        if let Some(syncer) = self.syncer.get() {
            syncer.unpark();
        }
    }

    pub fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::SeqCst)
    }

    /// Syncs every written frame to the disk, when there are new ones.
    pub fn sync_unsynced(&self) -> io::Result<()> {
        if !self.unsynced.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        // The lanes come first, so that a file sealed meanwhile is found among the sealed ones.
        let active = |lane: &Mutex<Lane>| lane.lock().active.as_ref().map(|segment| segment.file.clone());
        let mut files: Vec<Arc<File>> = self.lanes.iter().filter_map(active).collect();
        files.extend(self.sealed.lock().iter_mut().filter_map(|sealed| sealed.file.take()));
        files.iter().try_for_each(|file| file.sync_data())?;
        File::open(&self.dir)?.sync_all()
    }

    /// Returns this thread's lane, or another that is free.
    fn lane(&self) -> MutexGuard<'_, Lane> {
        let own = own_lane();
        (0..LANES)
            .find_map(|step| self.lanes[(own + step) % LANES].try_lock())
            .unwrap_or_else(|| self.lanes[own].lock())
    }

    fn write(&self, lane: &mut Lane, entry: &Entry) -> io::Result<u64> {
        lane.buffer.clear();
        frame::write(&mut lane.buffer, &entry.begin, entry.finish.get());
        let mut segment = match lane.active.take() {
            Some(segment) => segment,
            None => self.create()?,
        };
        if let Err(error) = (&*segment.file).write_all(&lane.buffer) {
            // The file may end in a part of the frame; without that part, the file stays usable.
            if segment.file.set_len(segment.bytes).is_ok() && segment.records > 0 {
                lane.active = Some(segment);
            } else {
                self.push_sealed(Some(segment));
            }
            return Err(error);
        }
        let written = lane.buffer.len() as u64;
        segment.bytes += written;
        segment.records += 1;
        self.bytes.fetch_add(written, Ordering::Relaxed);
        if self.syncs && !self.unsynced.swap(true, Ordering::SeqCst) {
            self.wake_syncer();
        }
        let number = segment.number;
        if segment.bytes >= SEGMENT_BYTES {
            self.push_sealed(Some(segment));
        } else {
            lane.active = Some(segment);
        }
        if lane.buffer.capacity() > BUFFER_KEPT {
            lane.buffer = Vec::new();
        }
        Ok(number)
    }

    fn create(&self) -> io::Result<Segment> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path(&self.dir, number))?;
        Ok(Segment { number, file: Arc::new(file), records: 0, bytes: 0 })
    }

    fn push_sealed(&self, segment: Option<Segment>) {
        let Some(Segment { number, file, records, bytes }) = segment else { return };
        let file = self.syncs.then_some(file);
        self.sealed.lock().push(Sealed { number, records, bytes, file });
    }
}

/// Returns the lane of this thread; threads take lanes in turn, each one for its life.
fn own_lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % LANES);
        }
        own.get()
    })
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{EXTENSION}"))
}

const EXTENSION: &str = "journal";

/// Returns the existing files, oldest first.
pub(super) fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .extension()
            .filter(|extension| *extension == EXTENSION)
            .and_then(|_| path.file_stem()?.to_str())
            .and_then(|stem| u64::from_str_radix(stem, 16).ok());
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}
