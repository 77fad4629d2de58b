//! `kill -9` under load: every begin that returned is found afterwards.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use entity::record::{RecordSettings, Recorder};
use protocol::{ExecutionId, Outcome, TenantId};

use super::store::{Store, begin, connect, fine};

tests!(
    BOTH: no_begun_execution_is_missing_after_a_kill;
    SQLITE: what_the_database_never_got_comes_from_the_journal_with_its_ends,
        a_damaged_journal_costs_what_was_damaged_and_no_more;
);

async fn no_begun_execution_is_missing_after_a_kill(store: Store) {
    for lines in [1, 400, 20_000] {
        let before: HashSet<ExecutionId> = store.all().await.iter().map(|found| found.id).collect();
        let printed = killed_after(&store, lines).await;
        let recorder = store.recorder().await;
        check(&store, &printed, &before).await;
        recorder.shutdown().await;
    }
}

async fn what_the_database_never_got_comes_from_the_journal_with_its_ends(store: Store) {
    let lock = rusqlite::Connection::open(store.url.strip_prefix("sqlite:").unwrap()).unwrap();
    let mut child = start(&store);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    read_lines(&mut output, &mut printed, 100);
    // From here on the database is away for the child.
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    read_lines(&mut output, &mut printed, 20_000);
    journal_rests(&store.dir.path().join("journal"));
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_string(&mut printed).unwrap();
    lock.execute_batch("ROLLBACK").unwrap();
    let recorder = store.recorder().await;
    let found = check(&store, &printed, &HashSet::new()).await;
    // The feeder noted ends in the journal when the database did not take them.
    let ok = found.values().filter(|outcome| **outcome == Outcome::Ok).count();
    assert!(ok > 5_000, "{ok} of {} have their end", found.len());
    assert_eq!(recorder.status().journal_bytes, 0);
}

async fn a_damaged_journal_costs_what_was_damaged_and_no_more(store: Store) {
    let lock = rusqlite::Connection::open(store.url.strip_prefix("sqlite:").unwrap()).unwrap();
    let mut child = start(&store);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    read_lines(&mut output, &mut printed, 1);
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    read_lines(&mut output, &mut printed, 2_000);
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_string(&mut printed).unwrap();
    lock.execute_batch("ROLLBACK").unwrap();
    let journal = store.dir.path().join("journal");
    for file in std::fs::read_dir(&journal).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            bytes.truncate(bytes.len() - 3);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    std::fs::write(journal.join("00000000000fffff.journal"), vec![0xe7; 70_000]).unwrap();
    store.recorder().await;
    let begun: HashSet<ExecutionId> = begun(&printed).collect();
    let found: HashSet<ExecutionId> = store.all().await.iter().map(|found| found.id).collect();
    let missing = begun.difference(&found).count();
    assert!((1..=8).contains(&missing), "{missing} of {} are missing", begun.len());
}

/// Runs the child until it has printed so many begins, and kills it.
async fn killed_after(store: &Store, lines: usize) -> String {
    let mut child = start(store);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    read_lines(&mut output, &mut printed, lines);
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_string(&mut printed).unwrap();
    last_statement(store).await;
    printed
}

/// Waits until PostgreSQL has finished what the killed process sent last: its rows may be committed after its
/// end, and are closed by the heartbeats then, a minute later.
async fn last_statement(store: &Store) {
    use sea_orm::{ConnectionTrait, Statement};
    if store.url.starts_with("sqlite:") {
        return;
    }
    let connection = store.db.connection();
    let active = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND pid <> pg_backend_pid() AND state <> 'idle'";
    for _ in 0..500 {
        let statement = Statement::from_string(connection.get_database_backend(), active);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        if row.try_get_by_index::<i64>(0).unwrap() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a statement of the killed process does not end");
}

/// Waits until the journal has not grown for 2.5 s: the ends of what has begun are in it.
fn journal_rests(journal: &Path) {
    let size = || -> u64 {
        let files = std::fs::read_dir(journal).unwrap();
        files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.len()).sum()
    };
    let (mut last, mut since) = (size(), Instant::now());
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(100));
        let now = size();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_millis(2_500) {
            return;
        }
    }
    panic!("the journal grows for a minute");
}

async fn check(store: &Store, printed: &str, before: &HashSet<ExecutionId>) -> HashMap<ExecutionId, Outcome> {
    let all = store.all().await;
    let found: HashMap<ExecutionId, Outcome> = all.iter().map(|found| (found.id, found.outcome)).collect();
    assert_eq!(found.len(), all.len(), "an execution has two rows");
    let mut count = 0;
    for id in begun(printed) {
        assert!(!before.contains(&id));
        let outcome = found.get(&id).unwrap_or_else(|| panic!("{id} is missing on {}", store.url));
        assert!(matches!(outcome, Outcome::Ok | Outcome::Unknown), "{id} is {outcome:?}");
        count += 1;
    }
    assert!(count > 0);
    let unknown = found.values().filter(|outcome| **outcome == Outcome::Unknown).count();
    eprintln!("{count} begun, {unknown} unknown, all there");
    found
}

/// The ids of whole lines.
fn begun(printed: &str) -> impl Iterator<Item = ExecutionId> {
    let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
    whole.lines().filter_map(|line| line.strip_prefix("begun ")).map(|id| id.trim().parse().unwrap())
}

fn read_lines(output: &mut impl BufRead, printed: &mut String, lines: usize) {
    let mut seen = 0;
    while seen < lines {
        let at = printed.len();
        assert!(output.read_line(printed).unwrap() > 0, "the child ended by itself: {printed}");
        seen += usize::from(printed[at..].starts_with("begun "));
    }
}

/// This test program again, as the process to kill.
fn start(store: &Store) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(CHILD)
        .env("RECORD_CHILD_URL", &store.url)
        .env("RECORD_CHILD_JOURNAL", store.settings().dir)
        .env("RECORD_CHILD_TENANT", store.tenant.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The argument that makes this program the process to kill.
pub const CHILD: &str = "record-child";

/// Records calls, and says each id as soon as its begin has returned.
#[tokio::main(worker_threads = 3)]
pub async fn child() {
    let url = std::env::var("RECORD_CHILD_URL").unwrap();
    let tenant: TenantId = std::env::var("RECORD_CHILD_TENANT").unwrap().parse().unwrap();
    let settings = RecordSettings::new(std::env::var("RECORD_CHILD_JOURNAL").unwrap());
    let recorder = Recorder::open(&connect(&url).await, settings).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        callers.spawn(call_for_ever(recorder.clone(), tenant));
    }
    callers.join_all().await;
}

async fn call_for_ever(recorder: Recorder, tenant: TenantId) {
    let mut open = Vec::new();
    loop {
        let record = recorder.begin(begin(tenant)).await.unwrap();
        std::io::stdout().write_all(format!("begun {}\n", record.id()).as_bytes()).unwrap();
        open.push(record);
        // Some stay open for a while, two of them for ever.
        if open.len() > 20 {
            open.drain(2..).for_each(|record| record.close(fine()));
            tokio::task::yield_now().await;
        }
    }
}
