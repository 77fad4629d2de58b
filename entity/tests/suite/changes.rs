//! Change numbers: whose rows changed since, in the order of commits.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use entity::{Changes, ConfigSettings, Db, NewAgent, NewConfig, NewTenant, Page, ServerPatch};
use migration::{Migrator, MigratorTrait};
use protocol::TenantId;

use crate::ground::{Ground, stdio};

tests!(
    BOTH: a_change_names_its_tenant_or_all, numbers_become_visible_in_their_order,
        a_process_follows_its_own_changes, an_old_database_is_migrated;
);

impl Ground {
    /// Whose rows a change was of: one tenant's, or (`None`) all tenants'.
    async fn concerns(&self, whom: Option<TenantId>, change: impl Future) {
        let before = self.newest_change().await;
        change.await;
        let tenants: HashSet<TenantId> = whom.into_iter().collect();
        let expected = Changes { newest: before + 1, all_tenants: whom.is_none(), tenants };
        assert_eq!(self.db.changes_since(before).await.unwrap(), Some(expected));
        assert_eq!(self.db.changes_since(before + 1).await.unwrap(), None);
    }
}

async fn a_change_names_its_tenant_or_all(ground: Ground) {
    let (db, actor) = (&ground.db, &ground.actor);
    let (operator, ours, theirs) = (db.operator(), db.tenant(ground.ours), db.tenant(ground.theirs));
    let off = || ServerPatch { enabled: Some(false), ..Default::default() };
    let begun = ground.newest_change().await;
    ground.concerns(Some(ground.ours), ours.create_server(stdio("own"), actor)).await;
    ground.concerns(Some(ground.theirs), theirs.create_server(stdio("own"), actor)).await;
    let global = operator.create_server(stdio("global"), actor).await.unwrap();
    ground.concerns(None, operator.update_server(global.id, off(), None, actor)).await;
    let new = NewTenant { slug: "third".to_owned(), name: "Third".to_owned() };
    ground.concerns(None, operator.create_tenant(new, actor)).await;
    let third = operator.find_tenant_by_slug("third").await.unwrap();
    ground.concerns(None, operator.delete_tenant(third.id, actor)).await;

    let all = db.changes_since(begun).await.unwrap().unwrap();
    assert_eq!((all.newest, all.all_tenants), (begun + 6, true));
    assert_eq!(all.tenants, HashSet::from([ground.ours, ground.theirs]));
    assert!(all.affect(third.id), "whoever it is");
}

/// Who has read a number has read all changes up to it, whatever is committed meanwhile.
async fn numbers_become_visible_in_their_order(ground: Ground) {
    let numbered = |db: Db| async move {
        let events = db.operator().audit_events(Page::new(1, 1)).await.unwrap().total;
        i64::try_from(events).unwrap()
    };
    let base = numbered(ground.db.clone()).await - ground.newest_change().await;
    let writers: Vec<_> = (0..24)
        .map(|at| {
            let (db, actor) = (ground.db.clone(), ground.actor.clone());
            let tenant = if at % 2 == 0 { ground.ours } else { ground.theirs };
            tokio::spawn(async move {
                db.tenant(tenant).create_server(stdio(&format!("s{at}")), &actor).await.unwrap();
            })
        })
        .collect();
    let mut looks = 0;
    while looks < 20 || writers.iter().any(|writer| !writer.is_finished()) {
        let newest = ground.newest_change().await;
        let committed = numbered(ground.db.clone()).await - base;
        assert!(committed >= newest, "{newest} is visible, but only {committed} changes are");
        looks += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(ground.newest_change().await + base, numbered(ground.db.clone()).await);
}

/// Whoever changes something goes on when this process has followed the change.
async fn a_process_follows_its_own_changes(ground: Ground) {
    let followed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&followed);
    ground.db.on_change(move || {
        let count = Arc::clone(&count);
        async move {
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let ours = ground.db.tenant(ground.ours);
    let made = ours.create_server(stdio("time"), &ground.actor).await.unwrap();
    assert_eq!(followed.load(Ordering::SeqCst), 1);
    ours.create_server(stdio("time"), &ground.actor).await.unwrap_err();
    ours.update_server(made.id, ServerPatch::default(), None, &ground.actor).await.unwrap();
    let new = NewAgent { slug: "robot".to_owned(), name: "Robot".to_owned() };
    ours.create_agent(new, &ground.actor).await.unwrap();
    assert_eq!(followed.load(Ordering::SeqCst), 1, "nothing changed, or nothing that anybody caches");
    ours.delete_server(made.id, &ground.actor).await.unwrap();
    assert_eq!(followed.load(Ordering::SeqCst), 2);
}

/// A database of the version before has one counter, and goes on from its number.
async fn an_old_database_is_migrated(ground: Ground) {
    let ours = ground.db.tenant(ground.ours);
    let server = ours.create_server(stdio("time"), &ground.actor).await.unwrap().id;
    let settings = ConfigSettings {
        enabled: Some(false),
        blocked_tools: Some(vec!["a\"b".to_owned()]),
        timeout_ms: Some(7),
        ..ConfigSettings::default()
    };
    let new = NewConfig { settings, ..NewConfig::new(server, None) };
    let config = ours.create_config(new, &ground.actor).await.unwrap();
    let earlier = ground.newest_change().await;
    // Back to before changes were numbered by tenant.
    let steps = u32::try_from(Migrator::migrations().len()).unwrap() - 3;
    Migrator::down(ground.db.connection(), Some(steps)).await.unwrap();
    ground.db.changes_since(0).await.unwrap_err();
    ground.db.migrate().await.unwrap();
    assert_eq!(ground.db.changes_since(0).await.unwrap(), None);
    let kept = ours.find_config(config.id).await.unwrap();
    assert_eq!(format!("{kept:?}"), format!("{config:?}"));
    ours.create_server(stdio("clock"), &ground.actor).await.unwrap();
    let tenants = HashSet::from([ground.ours]);
    let expected = Changes { newest: earlier + 1, all_tenants: false, tenants };
    assert_eq!(ground.db.changes_since(0).await.unwrap(), Some(expected));
}
