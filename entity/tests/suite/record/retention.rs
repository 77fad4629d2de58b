//! Retention: what is older than a tenant keeps is deleted, and nothing else.

use entity::record::{Begin, ExecutionFilter};
use entity::{Actor, RecordPolicyPatch};
use jiff::{SignedDuration, Timestamp};
use protocol::{ExecutionId, Outcome, TenantId};

use super::store::{Store, begin, fine};

tests!(
    BOTH: old_executions_are_deleted_batch_by_batch, a_running_call_and_other_tenants_stay;
);

/// Facts of a call that started this many hours ago.
fn hours_ago(tenant: TenantId, hours: i64) -> Begin {
    let at = Timestamp::now().saturating_sub(SignedDuration::from_hours(hours)).unwrap();
    Begin { id: ExecutionId::at(at), started_at: at, ..begin(tenant) }
}

async fn keep_for(store: &Store, tenant: TenantId, days: u32) {
    let patch = RecordPolicyPatch { retention_days: Some(Some(days)), ..RecordPolicyPatch::default() };
    store.db.tenant(tenant).update_record_policy(patch, &Actor::gateway(tenant)).await.unwrap();
}

async fn old_executions_are_deleted_batch_by_batch(store: Store) {
    let tenant = store.db.ensure_default_tenant().await.unwrap().id;
    keep_for(&store, tenant, 2).await;
    let recorder = store.recorder().await;
    for _ in 0..2_100 {
        recorder.begin(hours_ago(tenant, 49)).await.unwrap().close(fine());
    }
    let mut kept = Vec::new();
    for hours in [47, 1] {
        let record = recorder.begin(hours_ago(tenant, hours)).await.unwrap();
        kept.push(record.id());
        record.close(fine());
    }
    recorder.flush().await.unwrap();
    let operator = store.db.operator();
    assert_eq!(operator.expire_executions(Timestamp::now()).await.unwrap(), [(tenant, 2_100)]);
    let all = store.db.tenant(tenant).executions(&ExecutionFilter::default(), 200, None).await.unwrap();
    let mut left: Vec<_> = all.items.iter().map(|row| row.id).collect();
    left.reverse();
    assert_eq!(left, kept, "on {}", store.url);
    assert!(operator.expire_executions(Timestamp::now()).await.unwrap().is_empty());
}

async fn a_running_call_and_other_tenants_stay(store: Store) {
    let tenant = store.db.ensure_default_tenant().await.unwrap().id;
    keep_for(&store, tenant, 1).await;
    let recorder = store.recorder().await;
    let running = recorder.begin(hours_ago(tenant, 30)).await.unwrap();
    recorder.begin(hours_ago(store.tenant, 30)).await.unwrap().close(fine());
    recorder.flush().await.unwrap();
    assert!(store.db.operator().expire_executions(Timestamp::now()).await.unwrap().is_empty());
    assert_eq!(store.all().await.len(), 1, "another tenant keeps everything");
    let id = running.id();
    running.close(fine());
    recorder.flush().await.unwrap();
    let ended = store.db.tenant(tenant).find_execution(id).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Ok);
    assert_eq!(store.db.operator().expire_executions(Timestamp::now()).await.unwrap(), [(tenant, 1)]);
}
