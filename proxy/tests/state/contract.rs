//! The suite. Each part uses names of its own, so that it can run on a Redis that others use too.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use protocol::TenantId;
use proxy::state::{Bucket, LimitKey, Notice, Quota, StateKey, StateStore, Subscription};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(10);

pub async fn run(store: &dyn StateStore) {
    store.ping().await.unwrap();
    values_are_kept_until_they_expire(store).await;
    tenants_do_not_meet(store).await;
    exactly_the_maximum_passes(store).await;
    a_batch_is_all_or_nothing(store).await;
    a_refused_caller_may_come_back_when_it_was_told(store).await;
    limits_do_not_meet(store).await;
    many_at_once_get_no_more(store).await;
    messages_reach_those_who_listen(store).await;
}

fn key(name: &str) -> StateKey {
    StateKey::tenant(TenantId::new(), name)
}

fn limit() -> LimitKey {
    LimitKey::new(TenantId::new(), Bucket::Caller, Uuid::now_v7())
}

async fn values_are_kept_until_they_expire(store: &dyn StateStore) {
    let key = key("value");
    assert_eq!(store.get(&key).await.unwrap(), None);
    for value in [&b"one"[..], b"", b"\x00\xff\r\n two"] {
        store.put(&key, Bytes::copy_from_slice(value), SOON).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(value));
    }
    assert!(store.delete(&key).await.unwrap());
    assert!(!store.delete(&key).await.unwrap());
    assert_eq!(store.get(&key).await.unwrap(), None);

    store.put(&key, Bytes::from_static(b"short"), Duration::from_millis(80)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert!(!store.delete(&key).await.unwrap(), "an expired value is no value");
    // Times to live at the ends of what can be said are no error.
    store.put(&key, Bytes::new(), Duration::MAX).await.unwrap();
    store.put(&key, Bytes::new(), Duration::ZERO).await.unwrap();
}

async fn tenants_do_not_meet(store: &dyn StateStore) {
    let (mine, theirs) = (key("same name"), key("same name"));
    store.put(&mine, Bytes::from_static(b"mine"), SOON).await.unwrap();
    assert_eq!(store.get(&theirs).await.unwrap(), None);
    assert!(!store.delete(&theirs).await.unwrap());
    assert!(store.delete(&mine).await.unwrap());
}

async fn exactly_the_maximum_passes(store: &dyn StateStore) {
    let (key, quota) = (limit(), Quota::new(100, Duration::from_secs(60)));
    for left in (0..100).rev() {
        let admission = store.admit(key, &quota, 1).await.unwrap();
        assert!(admission.allowed, "{left} left");
        assert_eq!(admission.remaining, left);
        assert_eq!(admission.retry_after, None);
    }
    let refused = store.admit(key, &quota, 1).await.unwrap();
    assert!(!refused.allowed);
    assert_eq!(refused.remaining, 0);
    let wait = refused.retry_after.unwrap();
    assert!(wait <= Duration::from_millis(600) && wait > Duration::from_millis(100), "{wait:?}");
    let reset = refused.reset_after;
    assert!(reset <= Duration::from_secs(60) && reset > Duration::from_secs(59), "{reset:?}");

    let unlimited = Quota::new(0, Duration::from_secs(60));
    for _ in 0..3 {
        assert!(store.admit(key, &unlimited, u32::MAX).await.unwrap().allowed);
    }
}

async fn a_batch_is_all_or_nothing(store: &dyn StateStore) {
    let (key, quota) = (limit(), Quota::new(10, Duration::from_secs(60)));
    let first = store.admit(key, &quota, 7).await.unwrap();
    assert_eq!((first.allowed, first.remaining), (true, 3));
    let second = store.admit(key, &quota, 4).await.unwrap();
    assert_eq!((second.allowed, second.remaining), (false, 3));
    let wait = second.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(6) && wait > Duration::from_secs(5), "{wait:?}");
    let never = store.admit(key, &quota, 11).await.unwrap();
    assert_eq!((never.allowed, never.retry_after, never.remaining), (false, None, 3));
    assert_eq!(store.admit(key, &quota, 0).await.unwrap().remaining, 3);
    assert!(store.admit(key, &quota, 3).await.unwrap().allowed);
    // The same key under a smaller quota is not held to what the larger one let through.
    let smaller = store.admit(key, &Quota::new(10, Duration::from_secs(1)), 1).await.unwrap();
    assert!(smaller.retry_after.unwrap_or_default() <= Duration::from_millis(100), "{smaller:?}");
}

async fn a_refused_caller_may_come_back_when_it_was_told(store: &dyn StateStore) {
    let (key, quota) = (limit(), Quota::new(5, Duration::from_secs(1)));
    while store.admit(key, &quota, 1).await.unwrap().allowed {}
    let wait = store.admit(key, &quota, 1).await.unwrap().retry_after.unwrap();
    assert!(wait <= Duration::from_millis(200), "{wait:?}");
    tokio::time::sleep(wait + Duration::from_millis(2)).await;
    assert!(store.admit(key, &quota, 1).await.unwrap().allowed);
    assert!(!store.admit(key, &quota, 1).await.unwrap().allowed);
    // After the whole window, the whole quota is free again.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(store.admit(key, &quota, 5).await.unwrap().remaining, 0);
}

async fn limits_do_not_meet(store: &dyn StateStore) {
    let quota = Quota::new(1, Duration::from_secs(60));
    let (one, other, subject) = (TenantId::new(), TenantId::new(), Uuid::now_v7());
    for key in [
        LimitKey::new(one, Bucket::Caller, subject),
        LimitKey::new(one, Bucket::CallerRest, subject),
        LimitKey::new(one, Bucket::Caller, Uuid::now_v7()),
        LimitKey::new(other, Bucket::Caller, subject),
    ] {
        assert!(store.admit(key, &quota, 1).await.unwrap().allowed);
        assert!(!store.admit(key, &quota, 1).await.unwrap().allowed);
    }
}

async fn many_at_once_get_no_more(store: &dyn StateStore) {
    let (key, quota) = (limit(), Quota::new(50, Duration::from_secs(60)));
    let answers = join_all((0..200).map(|_| store.admit(key, &quota, 1))).await;
    assert_eq!(answers.into_iter().filter(|answer| answer.as_ref().unwrap().allowed).count(), 50);
}

async fn messages_reach_those_who_listen(store: &dyn StateStore) {
    let (channel, other) = (key("task:1:updates"), key("task:1:updates"));
    store.publish(&channel, Bytes::from_static(b"nobody listens")).await.unwrap();
    let mut first = store.subscribe(&channel).await.unwrap();
    let mut second = store.subscribe(&channel).await.unwrap();
    let mut elsewhere = store.subscribe(&other).await.unwrap();
    for text in [&b"one"[..], b"\x00two", b""] {
        store.publish(&channel, Bytes::copy_from_slice(text)).await.unwrap();
    }
    for listener in [&mut first, &mut second] {
        for text in [&b"one"[..], b"\x00two", b""] {
            assert_eq!(next(listener).await, Notice::Message(Bytes::copy_from_slice(text)));
        }
    }
    // One leaves, the other stays; then the last one leaves, and somebody comes again.
    drop(first);
    store.publish(&channel, Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(next(&mut second).await, Notice::Message(Bytes::from_static(b"three")));
    drop(second);
    let mut again = store.subscribe(&channel).await.unwrap();
    store.publish(&channel, Bytes::from_static(b"four")).await.unwrap();
    assert_eq!(next(&mut again).await, Notice::Message(Bytes::from_static(b"four")));
    assert!(tokio::time::timeout(Duration::from_millis(50), elsewhere.next()).await.is_err());

    // A reader that is too slow is told so, and gets the newest.
    for i in 0..500u32 {
        store.publish(&other, Bytes::copy_from_slice(&i.to_be_bytes())).await.unwrap();
    }
    let newest = Notice::Message(Bytes::copy_from_slice(&499u32.to_be_bytes()));
    let (mut missed, started) = (false, Instant::now());
    loop {
        match next(&mut elsewhere).await {
            Notice::Missed => missed = true,
            message if message == newest => break,
            Notice::Message(_) => assert!(started.elapsed() < SOON),
        }
    }
    assert!(missed || store.name() != "memory");
}

pub async fn next(subscription: &mut Subscription) -> Notice {
    let waited = tokio::time::timeout(Duration::from_secs(5), subscription.next()).await;
    waited.expect("nothing came within 5 s").expect("the subscription ended")
}

pub async fn two_replicas_share_a_limit(one: &dyn StateStore, two: &dyn StateStore) {
    let (key, quota) = (limit(), Quota::new(100, Duration::from_secs(60)));
    let answers = join_all((0..300).map(|i| if i % 2 == 0 { one } else { two }.admit(key, &quota, 1))).await;
    assert_eq!(answers.into_iter().filter(|answer| answer.as_ref().unwrap().allowed).count(), 100);
}

pub async fn two_replicas_share_a_channel(one: &dyn StateStore, two: &dyn StateStore) {
    let channel = StateKey::global("news");
    let mut listener = two.subscribe(&channel).await.unwrap();
    one.publish(&channel, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(next(&mut listener).await, Notice::Message(Bytes::from_static(b"hello")));
}
