//! One call, one row, with the right end.

use std::time::{Duration, Instant};

use entity::record::{Durability, Finish, RecordError, RecordSettings, RecordedError, Recorder};
use protocol::Outcome;

use super::store::{Store, begin, connect, fine, quick};

tests!(
    BOTH: a_call_is_one_row_with_its_end,
        a_dropped_record_is_cancelled_and_a_refused_call_is_a_finished_row,
        a_long_call_is_seen_running_and_then_ended, flush_gives_read_your_writes_after_any_pause,
        strict_has_the_row_before_the_call, interval_durability_records_alike,
        a_dead_replica_s_running_rows_become_unknown_and_a_late_end_still_counts;
    SQLITE: shutdown_leaves_nothing_in_the_journal_and_the_directory_free;
);

async fn a_call_is_one_row_with_its_end(store: Store) {
    let recorder = store.recorder().await;
    let begun = begin(store.tenant);
    let record = recorder.begin(begun.clone()).await.unwrap();
    assert_eq!(record.id(), begun.id);
    let error = RecordedError::new("upstream_failed", &"é\0".repeat(600), Some("rule".to_owned()));
    record.close(Finish {
        queue_us: 5,
        upstream_us: 1_000,
        error: Some(Box::new(error)),
        ..Finish { outcome: Outcome::Unavailable, ..fine() }
    });
    recorder.flush().await.unwrap();

    let all = store.all().await;
    assert_eq!(all.len(), 1);
    let row = &all[0];
    assert_eq!((row.id, row.tenant, row.request), (begun.id, begun.tenant, begun.request));
    assert_eq!((row.agent, row.credential, row.server), (begun.agent, None, begun.server));
    assert_eq!((row.kind, row.caller_kind, row.trace_id), (begun.kind, begun.caller_kind, begun.trace_id));
    assert_eq!((&*row.server_slug, &*row.tool), ("time", "get_time"));
    assert_eq!(row.arguments_redacted.as_deref(), Some(r#"{"zone":"UTC","token":"[redacted]"}"#));
    assert_eq!((row.arguments_digest, row.argument_bytes), (begun.digest, begun.argument_bytes.into()));
    assert_eq!(row.started_at.as_microsecond(), begun.started_at.as_microsecond());
    assert_eq!(row.finished_at.unwrap().as_microsecond(), begun.started_at.as_microsecond() + 1_500);
    assert_eq!((row.duration_us, row.queue_us, row.upstream_us), (Some(1_500), Some(5), Some(1_000)));
    assert_eq!((row.attempts, row.result_bytes), (Some(1), Some(99)));
    assert_eq!((row.tokens_in, row.tokens_out, row.tokens_estimated), (Some(4), Some(25), Some(false)));
    let error = row.error.as_ref().unwrap();
    assert_eq!((&*error.code, error.rule.as_deref()), ("upstream_failed", Some("rule")));
    assert!(error.message.len() <= 2 * RecordedError::MESSAGE_CAP && error.message.starts_with('é'));
}

async fn a_dropped_record_is_cancelled_and_a_refused_call_is_a_finished_row(store: Store) {
    let recorder = store.recorder().await;
    let (dropped, refused) = (begin(store.tenant), begin(store.tenant));
    let (dropped_id, refused_id) = (dropped.id, refused.id);
    drop(recorder.begin(dropped).await.unwrap());
    recorder.refused(refused, Finish::bare(Outcome::Limited, 0));
    recorder.flush().await.unwrap();
    assert_eq!(store.find(dropped_id).await.unwrap().outcome, Outcome::Cancelled);
    assert_eq!(store.find(refused_id).await.unwrap().outcome, Outcome::Limited);
}

async fn a_long_call_is_seen_running_and_then_ended(store: Store) {
    let recorder = store.recorder().await;
    let record = recorder.begin(begin(store.tenant)).await.unwrap();
    let id = record.id();
    let row = store.until(id, Outcome::Running).await;
    assert_eq!((row.finished_at, row.attempts), (None, None));
    // Long enough for the feeder to be asleep: the end wakes it.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    record.close(fine());
    store.until(id, Outcome::Ok).await;
    assert_eq!(store.all().await.len(), 1);
}

async fn flush_gives_read_your_writes_after_any_pause(store: Store) {
    let recorder = store.recorder().await;
    for pause in [0, 20, 1_400] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let open = recorder.begin(begin(store.tenant)).await.unwrap();
        let closed = recorder.begin(begin(store.tenant)).await.unwrap();
        let closed_id = closed.id();
        closed.close(fine());
        recorder.flush().await.unwrap();
        assert_eq!(store.find(open.id()).await.unwrap().outcome, Outcome::Running);
        assert_eq!(store.find(closed_id).await.unwrap().outcome, Outcome::Ok);
    }
}

async fn strict_has_the_row_before_the_call(store: Store) {
    let recorder = store.strict().await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (recorder, tenant) = (recorder.clone(), store.tenant);
            tokio::spawn(async move { recorder.begin(begin(tenant)).await.unwrap() })
        })
        .collect();
    for call in calls {
        let record = call.await.unwrap();
        assert_eq!(store.find(record.id()).await.unwrap().outcome, Outcome::Running);
        let id = record.id();
        record.close(fine());
        store.until(id, Outcome::Ok).await;
    }
}

async fn interval_durability_records_alike(store: Store) {
    let durability = Durability::Interval(Duration::from_millis(20));
    let recorder =
        Recorder::open(&store.db, RecordSettings { durability, ..store.settings() }).await.unwrap();
    for _ in 0..20 {
        recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    recorder.flush().await.unwrap();
    assert_eq!(store.all().await.len(), 20);
    assert!(recorder.status().failing.is_none());
}

async fn shutdown_leaves_nothing_in_the_journal_and_the_directory_free(store: Store) {
    let recorder = store.recorder().await;
    let second = Recorder::open(&store.db, store.settings()).await;
    assert!(matches!(second, Err(RecordError::InUse(_))), "two processes in one journal");
    for _ in 0..10_000 {
        recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
    }
    recorder.shutdown().await;
    recorder.shutdown().await;
    assert_eq!(recorder.status().journal_bytes, 0);
    assert!(recorder.begin(begin(store.tenant)).await.is_err());
    assert!(matches!(recorder.flush().await, Err(RecordError::Closed)));
    assert_eq!(store.all().await.len(), 10_000);
    store.recorder().await;
}

async fn a_dead_replica_s_running_rows_become_unknown_and_a_late_end_still_counts(store: Store) {
    let settings =
        |name: &str| RecordSettings { pace: quick(), ..RecordSettings::new(store.dir.path().join(name)) };
    // The first one beats once and then seems dead, but is not.
    let mut slow = settings("first");
    slow.pace.heartbeat = Duration::from_secs(3_600);
    let first = Recorder::open(&store.db, slow).await.unwrap();
    let record = first.begin(begin(store.tenant)).await.unwrap();
    first.flush().await.unwrap();
    let since = Instant::now();
    let second = Recorder::open(&connect(&store.url).await, settings("second")).await.unwrap();
    let alive = second.begin(begin(store.tenant)).await.unwrap();
    store.until(record.id(), Outcome::Unknown).await;
    assert!(since.elapsed() > Duration::from_millis(200));
    assert_eq!(store.find(alive.id()).await.unwrap().outcome, Outcome::Running);
    let id = record.id();
    record.close(fine());
    first.flush().await.unwrap();
    assert_eq!(store.find(id).await.unwrap().outcome, Outcome::Ok);
}
