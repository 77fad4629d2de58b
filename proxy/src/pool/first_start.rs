//! First start of a stdio server whose era is unknown: the process that is asked is the one that is used.
//! `server/discover` comes first, and an error leads to `initialize` on the same process. A process that ends
//! or stays silent at the question is replaced by one that gets `initialize` at once. A process that ended
//! before it read the question did not start, which is the answer for all callers that wait.

use std::sync::Arc;
use std::time::Instant;

use protocol::mcp::{Era, Eras};
use protocol::{Code, Refusal};

use super::entry::Entry;
use super::starting::Claim;
use super::{Pool, PoolKey, start};
use crate::server::{ServerSpec, StdioLaunch};
use crate::stdio::{self, Discovered, NotStarted, StartedChild, StartingChild, StdioPlan, stopped};
use crate::upstream::Initialized;

/// A child whose era is known.
enum Asked {
    Legacy(StartedChild),
    /// A child that is not in use yet: its plan is that of the legacy era.
    Modern(StartingChild, Initialized),
}

impl Pool {
    /// Starts a server and puts its upstream to use, under `legacy` or the shared key of the modern era.
    /// Returns the eras, of an upstream that runs without a start; `None` if no start is allowed now, which a
    /// request under `legacy` explains.
    ///
    /// # Errors
    /// The reason why the server did not start.
    pub(super) async fn first_start(
        &self,
        spec: &Arc<ServerSpec>,
        launch: &StdioLaunch,
        legacy: PoolKey,
    ) -> Result<Option<Eras>, Refusal> {
        let entries = self.shared.of(legacy.tenant, spec.id);
        let runs = |entry: &&Arc<Entry>| entry.key.revision == spec.revision && entry.alive().is_some();
        if let Some(running) = entries.iter().find(runs) {
            return Ok(Some(eras_of(running.key.era)));
        }
        let entry = self.entry(&legacy, spec)?;
        let Some(claim) = entry.claim() else { return Ok(None) };
        let eras = match self.start_claimed(&entry, launch, &claim).await {
            // The end of the client for which it started, for instance, says nothing to others.
            Err(_) if entry.is_overtaken(&claim) => Ok(None),
            Err(refusal) => {
                entry.did_not_start(&claim, &refusal);
                Err(refusal)
            }
            Ok(eras) => Ok(Some(eras)),
        };
        claim.finish(eras.clone().map(drop));
        eras
    }

    async fn start_claimed(
        &self,
        entry: &Arc<Entry>,
        launch: &StdioLaunch,
        claim: &Claim,
    ) -> Result<Eras, Refusal> {
        let _permit = entry.turn(claim).await?;
        let _place = self.shared.make_room(entry.key.tenant).await?;
        match FirstStart::new(entry, launch).asked(claim).await? {
            Asked::Legacy(child) => {
                entry.install(start::running(entry, child), claim).await;
                Ok(Eras::LEGACY)
            }
            Asked::Modern(child, initialized) => {
                self.install_modern(entry, child, initialized).await;
                entry.give_back(claim);
                Ok(Eras::MODERN)
            }
        }
    }

    /// Puts a modern child to use, unless its server runs already, or was stopped or changed meanwhile.
    async fn install_modern(&self, asked: &Entry, child: StartingChild, initialized: Initialized) {
        let key = PoolKey::shared(asked.key.tenant, &asked.spec, Era::Modern);
        let entry = self.entry(&key, &asked.spec).ok();
        let Some((entry, claim)) = entry.and_then(|entry| entry.claim().map(|claim| (entry, claim))) else {
            return child.end(stopped(asked.spec.slug.as_str())).await;
        };
        claim.begin();
        child.become_modern(start::peer_plan(&entry));
        let running = start::running(&entry, child.started(initialized).await);
        entry.install(running, &claim).await;
        claim.finish(Ok(()));
    }
}

struct FirstStart<'a> {
    entry: &'a Entry,
    launch: &'a StdioLaunch,
    plan: StdioPlan,
    generation: u64,
}

impl<'a> FirstStart<'a> {
    fn new(entry: &'a Entry, launch: &'a StdioLaunch) -> Self {
        Self {
            entry,
            launch,
            plan: start::stdio_plan(&entry.pool, &entry.spec, start::peer_plan(entry), entry.key.tenant),
            generation: entry.pool.next_generation(),
        }
    }

    /// Starts the child and finds its era.
    async fn asked(&self, claim: &Claim) -> Result<Asked, Refusal> {
        let child = StartingChild::open(&self.plan, self.launch).await?;
        let deadline = self.deadline();
        let unanswered = match child.discover(self.generation, deadline).await {
            Discovered::Modern(initialized) => {
                self.note("answered", "not asked");
                return Ok(Asked::Modern(child, initialized));
            }
            Discovered::Refused { refusal, by_modern } => {
                match child.shake(self.generation, deadline).await {
                    Ok(initialized) => {
                        self.note(&refusal.reason, "answered");
                        return Ok(Asked::Legacy(child.started(initialized).await));
                    }
                    Err(failed) => {
                        self.note(&refusal.reason, &failed.refusal.reason);
                        if let Some(refusal) = refused(&refusal, by_modern, failed) {
                            child.end(refusal.clone()).await;
                            return Err(refusal);
                        }
                    }
                }
                refusal.reason.into_owned()
            }
            Discovered::Unanswered(how) => how,
            Discovered::NotStarted(refusal) => {
                child.end(refusal.clone()).await;
                return Err(refusal);
            }
        };
        let refusal = stopped(self.entry.spec.slug.as_str());
        child.end(refusal.clone()).await;
        if self.entry.is_overtaken(claim) {
            return Err(refusal);
        }
        claim.begin();
        self.again(&unanswered).await
    }

    /// Starts another process, directly with `initialize`.
    async fn again(&self, discovered: &str) -> Result<Asked, Refusal> {
        let started = stdio::start(&self.plan, self.launch, self.generation, self.deadline()).await;
        match &started {
            Ok(_) => self.note(discovered, "answered by another process"),
            Err(failed) => self.note(discovered, &failed.refusal.reason),
        }
        started.map(Asked::Legacy).map_err(|failed| failed.refusal)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.entry.spec.start_timeout.value
    }

    fn note(&self, discover: &str, initialize: &str) {
        self.entry.logs.note(format!(
            "asked which era it speaks: `server/discover`: {discover}; `initialize`: {initialize}"
        ));
    }
}

/// Returns the reason why a server does not start that refused both requests, or was stopped; `None` for one
/// that ended or stayed silent at `initialize`. The error of a modern server says more than its error to
/// `initialize`.
fn refused(discover: &Refusal, by_modern: bool, initialize: NotStarted) -> Option<Refusal> {
    let NotStarted { refusal, wrong_era } = initialize;
    match wrong_era {
        true if by_modern => Some(discover.clone()),
        true => Some(refusal),
        false => (refusal.code == Code::ServerStopped).then_some(refusal),
    }
}

fn eras_of(era: Era) -> Eras {
    match era {
        Era::Legacy => Eras::LEGACY,
        Era::Modern => Eras::MODERN,
    }
}
