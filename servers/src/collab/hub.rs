//! Notices of changed tasks within this process: who waits for a task, and what to tell other processes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use protocol::TenantId;
use protocol::provider::Changed;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

/// A task of a tenant.
pub type TaskKey = (TenantId, Arc<str>);

/// Subjects of a change, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct About(u8);

impl About {
    /// The task's own members.
    pub const TASK: About = About(1);
    pub const FILES: About = About(1 << 1);
    /// Steps, and events in general.
    pub const LOGS: About = About(1 << 2);
    pub const LEASES: About = About(1 << 3);
    pub const PEOPLE: About = About(1 << 4);
    /// The list of tasks.
    pub const LIST: About = About(1 << 5);
    pub const ALL: About = About(0x3f);

    pub const fn and(self, other: About) -> About {
        About(self.0 | other.0)
    }

    fn meets(self, other: About) -> bool {
        self.0 & other.0 != 0
    }
}

/// A change of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    pub key: TaskKey,
    /// Number of the newest event; `None` for a deleted task.
    pub seq: Option<i64>,
    pub about: About,
    /// The file that changed; `None` if it is not known, or another thing changed.
    pub path: Option<Arc<str>>,
}

/// Registry of those who wait for changes.
pub struct Hub {
    followed: DashMap<TaskKey, Followed>,
    watchers: DashMap<TenantId, HashMap<u64, Watcher>>,
    next: AtomicU64,
    outbound: mpsc::UnboundedSender<Notice>,
}

/// A task that somebody waits for.
struct Followed {
    newest: watch::Sender<Newest>,
    followers: usize,
}

/// Newest event that is known, 0 for none, and the number of the task's deletions meanwhile.
#[derive(Clone, Copy, Default)]
struct Newest {
    seq: i64,
    deletions: u64,
}

struct Watcher {
    /// `None` for all tasks of the tenant.
    task: Option<Arc<str>>,
    about: About,
    path: Option<Arc<str>>,
    changed: Changed,
}

impl Hub {
    /// Returns the hub, and the notices that other processes need.
    pub fn new() -> (Arc<Hub>, mpsc::UnboundedReceiver<Notice>) {
        let (outbound, notices) = mpsc::unbounded_channel();
        let hub =
            Hub { followed: DashMap::new(), watchers: DashMap::new(), next: AtomicU64::new(0), outbound };
        (Arc::new(hub), notices)
    }

    /// Tells everybody of a change that this process made.
    pub fn changed(&self, notice: Notice) {
        self.told(&notice);
        // Without a receiver the gateway stops.
        self.outbound.send(notice).ok();
    }

    /// Wakes the followers of a task, if its newest event is later than the one that they know.
    pub fn wake(&self, key: &TaskKey, seq: i64) {
        if let Some(followed) = self.followed.get(key) {
            followed.newest.send_if_modified(|newest| {
                let grown = seq > newest.seq;
                newest.seq = newest.seq.max(seq);
                grown
            });
        }
    }

    /// Tells those in this process of a change.
    pub fn told(&self, notice: &Notice) {
        match notice.seq {
            Some(seq) => self.wake(&notice.key, seq),
            None => {
                if let Some(followed) = self.followed.get(&notice.key) {
                    // A task of the same name begins again.
                    followed.newest.send_modify(|newest| {
                        *newest = Newest { seq: 0, deletions: newest.deletions + 1 };
                    });
                }
            }
        }
        let Some(watchers) = self.watchers.get(&notice.key.0) else { return };
        for watcher in watchers.values() {
            let of_task = watcher.task.as_ref().is_none_or(|task| *task == notice.key.1);
            let of_path = match (&watcher.path, &notice.path) {
                (Some(wanted), Some(path)) => wanted == path,
                _ => true,
            };
            if of_task && of_path && watcher.about.meets(notice.about) {
                (watcher.changed)();
            }
        }
    }

    /// Follows a task. The receiver's value is the number of the newest event that is known, or 0.
    pub fn follow(self: &Arc<Self>, key: TaskKey) -> Follower {
        let mut followed = self
            .followed
            .entry(key.clone())
            .or_insert_with(|| Followed { newest: watch::Sender::new(Newest::default()), followers: 0 });
        followed.followers += 1;
        let newest = followed.newest.subscribe();
        let deletions = newest.borrow().deletions;
        drop(followed);
        Follower { hub: Arc::clone(self), key, newest, deletions }
    }

    /// Returns the tasks that somebody follows, with the newest event that they know of.
    pub fn followed(&self) -> Vec<(TaskKey, i64)> {
        self.followed.iter().map(|entry| (entry.key().clone(), entry.newest.borrow().seq)).collect()
    }

    pub fn followers(&self) -> usize {
        self.followed.iter().map(|entry| entry.followers).sum()
    }

    /// Calls `changed` after each such change, until the guard is dropped.
    pub fn watch(
        self: &Arc<Self>,
        tenant: TenantId,
        task: Option<&str>,
        about: About,
        path: Option<&str>,
        changed: Changed,
    ) -> WatchGuard {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let watcher = Watcher { task: task.map(Arc::from), about, path: path.map(Arc::from), changed };
        self.watchers.entry(tenant).or_default().insert(number, watcher);
        WatchGuard { hub: Arc::clone(self), tenant, number }
    }
}

/// Guard of a followed task.
pub struct Follower {
    hub: Arc<Hub>,
    key: TaskKey,
    newest: watch::Receiver<Newest>,
    deletions: u64,
}

impl Follower {
    /// Notes the newest event of a task that nobody followed before, so that it is no change later.
    pub fn begin_at(&self, seq: i64) {
        if self.newest.borrow().seq == 0 {
            self.hub.wake(&self.key, seq);
        }
    }

    /// Waits until there may be an event after the number, or the task was deleted.
    pub async fn after(&mut self, seq: i64) {
        let deletions = self.deletions;
        let later = self.newest.wait_for(|newest| newest.seq > seq || newest.deletions != deletions).await;
        // The sender lives as long as this guard.
        self.deletions = later.map_or(deletions, |newest| newest.deletions);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hub.followed.remove_if_mut(&self.key, |_, followed| {
            followed.followers -= 1;
            followed.followers == 0
        });
    }
}

/// Guard of [`Hub::watch`].
pub struct WatchGuard {
    hub: Arc<Hub>,
    tenant: TenantId,
    number: u64,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(mut watchers) = self.hub.watchers.get_mut(&self.tenant) {
            watchers.remove(&self.number);
        }
        self.hub.watchers.remove_if(&self.tenant, |_, watchers| watchers.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn notice(tenant: TenantId, task: &str, seq: i64, about: About, path: Option<&str>) -> Notice {
        Notice { key: (tenant, task.into()), seq: Some(seq), about, path: path.map(Arc::from) }
    }

    #[tokio::test]
    async fn followers_wait_for_a_later_event_of_their_task() {
        let (hub, mut outbound) = Hub::new();
        let tenant = TenantId::new();
        let mut follower = hub.follow((tenant, "t".into()));
        follower.begin_at(1);
        follower.begin_at(5);
        assert_eq!(hub.followed(), [((tenant, "t".into()), 1)], "only the first one counts");
        let second = hub.follow((tenant, "t".into()));
        hub.changed(notice(tenant, "u", 9, About::ALL, None));
        hub.changed(notice(TenantId::new(), "t", 9, About::ALL, None));
        hub.changed(notice(tenant, "t", 3, About::LOGS, None));
        hub.told(&notice(tenant, "t", 2, About::LOGS, None));
        assert_eq!(hub.followed(), [((tenant, "t".into()), 3)]);
        follower.after(2).await;
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), follower.after(3)).await;
        assert!(waits.is_err());
        hub.told(&Notice { seq: None, ..notice(tenant, "t", 0, About::ALL, None) });
        follower.after(9).await;
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), follower.after(0)).await;
        assert!(waits.is_err(), "a deletion wakes once");
        drop((follower, second));
        assert_eq!((hub.followed().len(), hub.followers()), (0, 0));
        assert_eq!(std::iter::from_fn(|| outbound.try_recv().ok()).count(), 3, "what others told stays here");
    }

    #[test]
    fn watchers_hear_what_they_asked_for() {
        let (hub, _outbound) = Hub::new();
        let tenant = TenantId::new();
        let heard = Arc::new(AtomicUsize::new(0));
        let count = || {
            let heard = Arc::clone(&heard);
            Arc::new(move || {
                heard.fetch_add(1, Ordering::Relaxed);
            }) as Changed
        };
        let files = hub.watch(tenant, Some("t"), About::FILES, None, count());
        let one = hub.watch(tenant, Some("t"), About::FILES, Some("a"), count());
        let all = hub.watch(tenant, None, About::ALL, None, count());
        for (notice, expected) in [
            (notice(tenant, "t", 1, About::FILES, Some("a")), 3),
            (notice(tenant, "t", 1, About::FILES, Some("b")), 2),
            (notice(tenant, "t", 1, About::ALL, None), 3),
            (notice(tenant, "t", 1, About::LOGS, None), 1),
            (notice(tenant, "u", 1, About::ALL, None), 1),
            (notice(TenantId::new(), "t", 1, About::ALL, None), 0),
        ] {
            heard.store(0, Ordering::Relaxed);
            hub.told(&notice);
            assert_eq!(heard.load(Ordering::Relaxed), expected, "{notice:?}");
        }
        drop((files, one, all));
        assert!(hub.watchers.is_empty());
    }
}
