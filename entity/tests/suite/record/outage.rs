//! The database is away, and comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use entity::record::{Durability, RecordSettings, Recorder};
use protocol::refusal::Code;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::store::{Store, begin, connect, fine};

tests!(
    SQLITE: a_busy_database_loses_nothing,
        beyond_the_bound_a_begin_waits_a_little_and_is_then_refused_with_the_reason,
        strict_refuses_in_time_and_records_that_nothing_was_called,
        a_journal_that_cannot_be_written_is_the_same_refusal;
    POSTGRES: lost_connections_to_postgresql_lose_and_double_nothing;
);

/// Another process writes to the SQLite file for longer than anyone waits.
fn locked(store: &Store) -> rusqlite::Connection {
    let lock = rusqlite::Connection::open(store.url.strip_prefix("sqlite:").unwrap()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

async fn a_busy_database_loses_nothing(store: Store) {
    let recorder = store.recorder().await;
    let lock = locked(&store);
    let open = recorder.begin(begin(store.tenant)).await.unwrap();
    for _ in 0..3_000 {
        recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
    }
    let error = recorder.flush().await.unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    let status = recorder.status();
    assert_eq!(status.backlog, 3_001);
    assert!(status.failing.as_ref().unwrap().0.contains("the database"), "{status:?}");
    assert!(status.oldest_age.is_some() && status.journal_bytes > 0, "{status:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    open.close(fine());
    recorder.flush().await.unwrap();
    assert_eq!(store.all().await.len(), 3_001);
    assert!(recorder.status().failing.is_none() && recorder.status().backlog == 0);
    recorder.shutdown().await;
    assert_eq!(recorder.status().journal_bytes, 0);
}

async fn beyond_the_bound_a_begin_waits_a_little_and_is_then_refused_with_the_reason(store: Store) {
    let full = |max_waiting, max_journal_bytes| RecordSettings {
        max_waiting,
        max_journal_bytes,
        ..store.settings()
    };
    for settings in [full(100, 1 << 30), full(1_000_000, 40_000)] {
        let recorder = Recorder::open(&store.db, settings).await.unwrap();
        let lock = locked(&store);
        let since = Instant::now();
        let (begun, refusal) = loop {
            let waiting = recorder.status().backlog;
            match recorder.begin(begin(store.tenant)).await {
                Ok(record) => record.close(fine()),
                Err(refusal) => break (waiting, refusal),
            }
        };
        assert!((100..=200).contains(&begun), "{begun}");
        assert!(since.elapsed() < Duration::from_millis(2_300), "{:?}", since.elapsed());
        assert_eq!(refusal.code, Code::RecordUnavailable);
        assert!(refusal.since.is_some() && refusal.hint.is_some(), "{refusal:?}");
        // A refused call is not worth waiting for.
        recorder.refused(begin(store.tenant), fine());
        assert_eq!(recorder.status().lost_refusals, 1);
        lock.execute_batch("ROLLBACK").unwrap();
        recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
        recorder.shutdown().await;
    }
}

async fn strict_refuses_in_time_and_records_that_nothing_was_called(store: Store) {
    let recorder = store.strict().await;
    let lock = locked(&store);
    let since = Instant::now();
    let refused = begin(store.tenant);
    let id = refused.id;
    let refusal = recorder.begin(refused).await.err().unwrap();
    assert_eq!(refusal.code, Code::RecordUnavailable);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    lock.execute_batch("ROLLBACK").unwrap();
    store.until(id, protocol::Outcome::Unavailable).await;
}

async fn a_journal_that_cannot_be_written_is_the_same_refusal(store: Store) {
    let recorder = store.recorder().await;
    let journal = store.settings().dir;
    std::fs::rename(&journal, journal.with_extension("away")).unwrap();
    let refusal = recorder.begin(begin(store.tenant)).await.err().unwrap();
    assert_eq!(refusal.code, Code::RecordUnavailable);
    assert!(recorder.status().failing.unwrap().0.contains("the journal"));
    std::fs::rename(journal.with_extension("away"), &journal).unwrap();
    recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
    recorder.flush().await.unwrap();
    assert!(recorder.status().failing.is_none());
    assert_eq!(store.all().await.len(), 1);
}

async fn lost_connections_to_postgresql_lose_and_double_nothing(store: Store) {
    let url = url::parts(&store.url);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap();
    drop(listener);
    let mut line = Line::open(near, url.1);
    let through = connect(&format!("{}{near}{}", url.0, url.2)).await;
    for durability in [Durability::Process, Durability::Strict] {
        let before = store.all().await.len();
        let settings = RecordSettings { durability, ..store.settings() };
        let recorder = Recorder::open(&through, settings).await.unwrap();
        let mut begun = 0;
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            for _ in 0..20 {
                if let Ok(record) = recorder.begin(begin(store.tenant)).await {
                    record.close(fine());
                    begun += 1;
                }
            }
            line.cut().await;
            tokio::time::sleep(Duration::from_millis(if begun % 3 == 0 { 5 } else { 60 })).await;
            line = Line::open(near, url.1);
        }
        while recorder.flush().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let all = store.all().await;
        let ok = all.iter().filter(|found| found.outcome == protocol::Outcome::Ok).count();
        eprintln!("{:?} {begun} begun over a line that was cut again and again", end.elapsed());
        assert!(begun > 20 && ok == before + begun, "{ok} of {}", before + begun);
        recorder.shutdown().await;
    }
}

mod url {
    use std::net::SocketAddr;

    /// `postgres://user@`, the server's address, `/name`.
    pub fn parts(url: &str) -> (String, SocketAddr, String) {
        let at = url.rfind('@').map_or_else(|| url.find("//").unwrap() + 2, |at| at + 1);
        let slash = at + url[at..].find('/').unwrap();
        let place = url[at..slash].replace("localhost", "127.0.0.1");
        (url[..at].to_owned(), place.parse().unwrap(), url[slash..].to_owned())
    }
}

/// A line to the server that can be cut.
struct Line(JoinSet<()>);

impl Line {
    fn open(near: SocketAddr, far: SocketAddr) -> Line {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(near).unwrap();
        let listener = socket.listen(64).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    let Ok(mut server) = TcpStream::connect(far).await else { return };
                    // A line that breaks is what the test is about.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Line(tasks)
    }

    async fn cut(&mut self) {
        self.0.shutdown().await;
    }
}
