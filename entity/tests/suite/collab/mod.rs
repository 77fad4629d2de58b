//! Tasks, leases, workspace files and events: the invariants of collaboration, with two connections to one
//! database where several processes would be.

mod events;
mod files;
mod leases;
mod outside;
mod tasks;

use std::time::Duration;

use entity::Db;
use entity::collab::{Claim, Claimed, Condition, FileWrite, Lease, Member, NewTask};
use protocol::{Code, Refusal, TenantId};

use crate::ground::Ground;

pub fn tests() -> Vec<libtest_mimic::Trial> {
    [events::tests(), files::tests(), leases::tests(), outside::tests(), tasks::tests()]
        .into_iter()
        .flatten()
        .collect()
}

fn agent(name: &str) -> Member {
    Member { agent: name.to_owned(), sees_all: false }
}

async fn with_task(ground: &Ground, id: &str) -> Member {
    let ada = agent("ada");
    ground.db.tenant(ground.ours).create_task(&ada, NewTask::new(id, "A task")).await.unwrap();
    ada
}

/// Another connection to the same database, as another replica has one.
async fn replica(ground: &Ground) -> Db {
    let seal = entity::Seal::from_key_texts(&ground.key, &[]).unwrap();
    Db::connect(&ground.settings, seal).await.unwrap()
}

fn exclusive(path: &str) -> Claim {
    Claim { path: path.to_owned(), shared: false, ttl: Duration::from_secs(60), queue: None }
}

async fn claim(db: &Db, tenant: TenantId, member: &Member, path: &str) -> Option<Lease> {
    match db.tenant(tenant).claim(member, "t", &exclusive(path)).await.unwrap().value {
        Claimed::Granted(lease) => Some(lease),
        Claimed::Held(_) => None,
    }
}

/// A write of a text, whose hash is the text itself.
fn write(path: &str, text: &str, condition: Condition) -> FileWrite {
    FileWrite {
        path: path.to_owned(),
        sha256: format!("{text:0>64}"),
        size: text.len() as i64,
        deleted: false,
        condition,
        token: None,
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
    result.unwrap_err().code
}

fn fact(refusal: &Refusal, name: &str) -> serde_json::Value {
    refusal.facts.as_ref().and_then(|facts| facts.get(name).cloned()).unwrap_or_default()
}
