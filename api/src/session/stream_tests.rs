//! Unit tests of streams: waiting, kept and dropped messages.

use super::*;
use crate::session::state::SessionState;

#[tokio::test]
async fn a_reader_that_comes_back_reads_on() {
    let stream = Stream::default();
    stream.keep_as(1, Weak::<SessionState>::new());
    for text in ["a", "b", "c"] {
        stream.try_send(text);
    }
    assert_eq!(stream.next(0).await.unwrap().message, "a");
    assert_eq!(stream.next(1).await.unwrap().message, "b");
    assert_eq!(stream.next(1).await.unwrap().message, "b", "it is kept");
    stream.end();
    assert_eq!(stream.next(2).await.unwrap().message, "c");
    assert!(stream.next(3).await.is_none());
}

#[test]
fn a_slow_reader_loses_notifications_and_nothing_else() {
    let stream = Arc::new(Stream::default());
    let _reading = stream.reading();
    for _ in 0..10 * MAX_EVENTS {
        stream.try_send("n");
    }
    stream.send("answer");
    let queue = stream.queue.lock();
    assert_eq!(queue.events.len(), MAX_EVENTS + 1);
    assert_eq!(queue.events.back().unwrap().message, "answer");
}

#[tokio::test]
async fn one_message_of_each_topic_waits_for_an_absent_reader() {
    let backlogs = crate::session::backlog::Backlogs::default();
    let stream = Stream::default();
    stream.keep_as(0, Weak::<SessionState>::new());
    stream.charge_to(&backlogs.of(protocol::TenantId::new()));
    for round in 0..600 {
        stream.try_send_latest(Topic::List("tools"), "tools");
        stream.try_send_latest(Topic::Resource("a".into()), format!("a{round:03}"));
        stream.try_send("log");
    }
    assert_eq!(stream.queue.lock().unread(), MAX_EVENTS_ABSENT);
    assert_eq!(backlogs.bytes(), stream.bytes());
    let mut read = Vec::new();
    while stream.has_unread() {
        read.push(stream.next(stream.read()).await.unwrap().message);
    }
    assert_eq!(read.iter().filter(|message| *message == "tools").count(), 1);
    assert_eq!(read.last().unwrap(), "a599", "the newest is what waits");
    stream.try_send_latest(Topic::List("tools"), "tools");
    assert_eq!(stream.next(stream.read()).await.unwrap().message, "tools", "read ones count no more");
    assert_eq!(stream.queue.lock().unread_bytes, 0);
    drop(stream);
    assert_eq!(backlogs.bytes(), 0);
}
