//! Reading the record: pages, filters, and the tenant's wall.

use std::time::Duration;

use entity::record::{Begin, ExecutionFilter, Finish, Kind, ServerKey};
use entity::{Actor, DbError};
use protocol::{ExecutionId, Outcome, TenantId};

use super::store::{Store, begin, fine};
use crate::ground::stdio;

tests!(
    BOTH: pages_have_no_gap_and_no_repetition_while_rows_are_added, filters_narrow,
        another_tenant_sees_nothing_and_a_foreign_cursor_is_refused;
    SQLITE: limits_are_clamped_and_the_last_page_says_so;
);

async fn pages_have_no_gap_and_no_repetition_while_rows_are_added(store: Store) {
    let recorder = store.recorder().await;
    let mut expected = Vec::new();
    for _ in 0..95 {
        let record = recorder.begin(begin(store.tenant)).await.unwrap();
        expected.push(record.id());
        record.close(fine());
    }
    expected.reverse();
    recorder.flush().await.unwrap();
    let scope = store.db.tenant(store.tenant);
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = scope.executions(&ExecutionFilter::default(), 10, cursor.as_deref()).await.unwrap();
        seen.extend(page.items.iter().map(|execution| execution.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
        for _ in 0..3 {
            recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
        }
        recorder.flush().await.unwrap();
    }
    assert_eq!(seen, expected);
}

async fn limits_are_clamped_and_the_last_page_says_so(store: Store) {
    let recorder = store.recorder().await;
    for _ in 0..201 {
        recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
    }
    recorder.flush().await.unwrap();
    let scope = store.db.tenant(store.tenant);
    let filter = ExecutionFilter::default();
    assert_eq!(scope.executions(&filter, 0, None).await.unwrap().items.len(), 1);
    let first = scope.executions(&filter, 10_000, None).await.unwrap();
    assert_eq!(first.items.len(), 200);
    let last = scope.executions(&filter, 200, first.next_cursor.as_deref()).await.unwrap();
    assert_eq!((last.items.len(), last.next_cursor), (1, None));
}

async fn filters_narrow(store: Store) {
    let recorder = store.recorder().await;
    let owner = store.db.ensure_default_tenant().await.unwrap().id;
    let server = store.db.tenant(owner).create_server(stdio("time"), &Actor::gateway(owner)).await.unwrap();
    let early = Begin { server: server.id, ..begin(store.tenant) };
    let mut late = begin(store.tenant);
    late.kind = Kind::PromptsGet;
    late.tool = "other".to_owned();
    late.server_slug = "git".into();
    late.started_at = early.started_at + Duration::from_secs(60);
    late.id = ExecutionId::at(late.started_at);
    recorder.begin(early.clone()).await.unwrap().close(fine());
    recorder.begin(late.clone()).await.unwrap().close(Finish::bare(Outcome::ToolError, 1));
    recorder.flush().await.unwrap();
    let all = ExecutionFilter::default;
    for (filter, found) in [
        (ExecutionFilter { server: Some(ServerKey::Id(early.server)), ..all() }, &early),
        (ExecutionFilter { server: Some(ServerKey::Slug("git".to_owned())), ..all() }, &late),
        (ExecutionFilter { tool: Some("other".to_owned()), ..all() }, &late),
        (ExecutionFilter { agent: early.agent, ..all() }, &early),
        (ExecutionFilter { outcome: Some(Outcome::ToolError), ..all() }, &late),
        (ExecutionFilter { kind: Some(Kind::ToolsCall), ..all() }, &early),
        (ExecutionFilter { started_after: Some(late.started_at), ..all() }, &late),
        (ExecutionFilter { started_before: Some(late.started_at), ..all() }, &early),
    ] {
        let page = store.db.tenant(store.tenant).executions(&filter, 10, None).await.unwrap();
        let ids: Vec<_> = page.items.iter().map(|execution| execution.id).collect();
        assert_eq!(ids, [found.id], "{filter:?} on {}", store.url);
    }
}

async fn another_tenant_sees_nothing_and_a_foreign_cursor_is_refused(store: Store) {
    let recorder = store.recorder().await;
    for _ in 0..2 {
        recorder.begin(begin(store.tenant)).await.unwrap().close(fine());
    }
    recorder.flush().await.unwrap();
    let filter = ExecutionFilter::default();
    let own = store.db.tenant(store.tenant).executions(&filter, 1, None).await.unwrap();
    let cursor = own.next_cursor.unwrap();
    let other = store.db.tenant(TenantId::new());
    assert!(other.executions(&filter, 10, None).await.unwrap().items.is_empty());
    assert_eq!(other.find_execution(own.items[0].id).await.unwrap_err(), DbError::NotFound);
    for bad in [cursor.as_str(), "", "nonsense", "AAAA"] {
        let error = other.executions(&filter, 10, Some(bad)).await.unwrap_err();
        assert!(matches!(&error, DbError::Invalid(text) if text.contains("cursor")), "{bad}: {error:?}");
    }
    let mut changed = cursor.into_bytes();
    changed[3] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    assert!(store.db.tenant(store.tenant).executions(&filter, 10, Some(&changed)).await.is_err());
}
