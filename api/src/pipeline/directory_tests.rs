//! Unit tests of the views and callers that a replica rebuilds after a change.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, HeaderValue, Uri};
use entity::{Actor, NewAgent, NewConfig, NewCredential, NewServer, NewTenant, Page};
use protocol::{Caller, Role};

use super::*;
use crate::app::{App, connect};
use crate::authn::Proof;
use crate::config::secrets::SecretFiles;
use crate::config::{Sources, load};

/// A replica with two tenants that have called.
struct Replica {
    app: App,
    /// Database connection of another replica, whose changes do not notify this one.
    elsewhere: Db,
    actor: Actor,
    tenants: [TenantId; 2],
    keys: [String; 2],
    _data: tempfile::TempDir,
}

type Cached = [(Arc<TenantView>, Arc<Caller>); 2];

impl Replica {
    async fn start() -> Replica {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().display().to_string();
        let environment = [("DATA_DIR".to_owned(), path)].into();
        let config = Arc::new(load(Sources { file: None, environment }).unwrap());
        let app = App::build(Arc::clone(&config), Vec::new()).await.unwrap();
        let elsewhere = connect(&config, &SecretFiles::new(data.path())).await.unwrap();
        let ours = app.db.ensure_default_tenant().await.unwrap().id;
        let actor = Actor::gateway(ours);
        let other = NewTenant { slug: "other".to_owned(), name: "Other".to_owned() };
        let theirs = app.db.operator().create_tenant(other, &actor).await.unwrap().id;
        let keys = [key(&app.db, ours).await, key(&app.db, theirs).await];
        Replica { app, elsewhere, actor, tenants: [ours, theirs], keys, _data: data }
    }

    fn directory(&self) -> &Directory {
        &self.app.gateway.upstreams.directory
    }

    /// Returns each tenant's view, and the caller of its key.
    async fn cached(&self) -> Cached {
        let [ours, theirs] = [0, 1].map(|at| async move {
            let view = self.directory().view(self.tenants[at]).await.unwrap();
            let headers = [("x-mcp-key".parse().unwrap(), HeaderValue::from_str(&self.keys[at]).unwrap())];
            let (headers, uri) = (HeaderMap::from_iter(headers), Uri::from_static("/mcp"));
            let resource = self.app.resources.of(&headers, &uri);
            let proof = Proof { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), headers: &headers, resource };
            (view, self.app.gateway.authn.identify(&proof).await.unwrap())
        });
        [ours.await, theirs.await]
    }

    /// Returns true for each view and caller that was rebuilt.
    async fn anew(&self, before: &Cached) -> [bool; 2] {
        let now = self.cached().await;
        [0, 1].map(|at| {
            let (view, caller) =
                (Arc::ptr_eq(&before[at].0, &now[at].0), Arc::ptr_eq(&before[at].1, &now[at].1));
            assert_eq!(view, caller, "views and callers go together");
            !view
        })
    }
}

async fn key(db: &Db, tenant: TenantId) -> String {
    let made = Authn::new_key();
    let new = NewCredential {
        agent: None,
        name: "k".to_owned(),
        hint: made.hint,
        secret_hash: made.hash,
        scopes: Role::Agent.scopes(),
        expires_at: None,
    };
    db.tenant(tenant).create_credential(new, &Actor::gateway(tenant)).await.unwrap();
    made.secret
}

fn server(slug: &str) -> NewServer {
    NewServer::new(slug.parse().unwrap(), slug, Transport::Stdio)
}

#[tokio::test]
async fn a_tenants_change_leaves_other_tenants_alone() {
    let replica = Replica::start().await;
    let [ours, theirs] = replica.tenants;
    let before = replica.cached().await;
    assert_eq!(replica.anew(&before).await, [false, false]);

    let made = replica.app.db.tenant(ours).create_server(server("own"), &replica.actor).await.unwrap();
    assert_eq!(
        replica.anew(&before).await,
        [true, false],
        "the replica that made the change follows at once"
    );
    assert!(replica.directory().view(ours).await.unwrap().find("own").is_some());

    let before = replica.cached().await;
    let new = NewConfig::new(made.id, None);
    replica.elsewhere.tenant(ours).create_config(new, &replica.actor).await.unwrap();
    let last = replica.elsewhere.tenant(theirs).create_server(server("last"), &replica.actor).await.unwrap();
    assert_eq!(replica.anew(&before).await, [false, false], "another replica's is not known yet");
    replica.directory().tick().await;
    assert_eq!(replica.anew(&before).await, [true, true]);

    let before = replica.cached().await;
    replica.elsewhere.tenant(theirs).delete_server(last.id, &replica.actor).await.unwrap();
    replica.directory().tick().await;
    assert_eq!(replica.anew(&before).await, [false, true]);
    replica.directory().tick().await;
    let before = replica.cached().await;
    replica.directory().tick().await;
    assert_eq!(replica.anew(&before).await, [false, false], "a change is followed once");
}

#[tokio::test]
async fn a_change_of_the_operators_reaches_all_tenants() {
    let replica = Replica::start().await;
    let before = replica.cached().await;
    let operator = replica.elsewhere.operator();
    let global = operator.create_server(server("global"), &replica.actor).await.unwrap();
    replica.directory().tick().await;
    assert_eq!(replica.anew(&before).await, [true, true]);
    for tenant in replica.tenants {
        assert!(replica.directory().view(tenant).await.unwrap().find("global").is_some());
    }
    let before = replica.cached().await;
    replica.app.db.operator().delete_server(global.id, &replica.actor).await.unwrap();
    assert_eq!(replica.anew(&before).await, [true, true]);
}

#[tokio::test]
async fn a_transaction_that_only_audits_makes_nobody_build_anew() {
    let replica = Replica::start().await;
    let before = replica.cached().await;
    let ours = replica.app.db.tenant(replica.tenants[0]);
    let events = ours.audit_events(Page::default()).await.unwrap().total;
    let new = NewAgent { slug: "robot".to_owned(), name: "Robot".to_owned() };
    ours.create_agent(new, &replica.actor).await.unwrap();
    assert_eq!(ours.audit_events(Page::default()).await.unwrap().total, events + 1);
    replica.directory().tick().await;
    assert_eq!(replica.anew(&before).await, [false, false]);
}
