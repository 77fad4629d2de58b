//! Random operations of several agents, with kills and expired leases among them, compared one by one with a
//! simple model. `MODEL_SECONDS` runs it longer; a failure names its seed, which `MODEL_SEED` repeats.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database};
use tests::{Actor, Answer, Backend, Case, Settings, TestApp, cases, json};

use super::{done, make_task, tool};

pub const CASES: &[Case] = cases![Every: operations_are_as_in_a_model];

const AGENTS: [&str; 3] = ["ada", "bob", "eve"];
const PATHS: [&str; 4] = ["a", "b", "d/a", "d/b"];

/// Patterns of leases, with the paths that each matches.
const PATTERNS: [(&str, &[usize]); 6] =
    [("a", &[0]), ("b", &[1]), ("?", &[0, 1]), ("d/*", &[2, 3]), ("**/a", &[0, 2]), ("**", &[0, 1, 2, 3])];

struct Random(u64);

impl Random {
    /// A number below `most` (splitmix64).
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

struct Lease {
    pattern: usize,
    shared: bool,
    holder: usize,
    token: i64,
}

#[derive(Default)]
struct File {
    version: i64,
    /// None after a deletion.
    content: Option<String>,
}

#[derive(Default)]
struct Model {
    files: HashMap<usize, File>,
    seen: HashMap<(usize, usize), i64>,
    leases: Vec<Lease>,
    last_token: i64,
    writes: i64,
    /// Tokens of ended leases.
    old: Vec<(usize, i64)>,
}

fn overlap(one: usize, other: usize) -> bool {
    PATTERNS[one].1.iter().any(|path| PATTERNS[other].1.contains(path))
}

/// The word of an answer: `ok`, or the code of the problem.
fn word(answer: &Answer) -> String {
    match answer.status {
        200 => "ok".to_owned(),
        _ => answer.json()["code"].as_str().unwrap_or_default().to_owned(),
    }
}

impl Model {
    fn version(&self, path: usize) -> i64 {
        self.files.get(&path).filter(|file| file.content.is_some()).map_or(0, |file| file.version)
    }

    /// What a write to this path comes to, before its version is looked at.
    fn write_refused(&self, agent: usize, path: usize, token: Option<i64>) -> Option<&'static str> {
        let of_path = || self.leases.iter().filter(|lease| PATTERNS[lease.pattern].1.contains(&path));
        if let Some(token) = token
            && !of_path().any(|lease| lease.holder == agent && lease.token == token)
        {
            return Some("stale_token");
        }
        of_path().any(|lease| lease.holder != agent).then_some("lease_held")
    }

    fn end(&mut self, ends: impl Fn(&Lease) -> bool) {
        let (gone, stay) = std::mem::take(&mut self.leases).into_iter().partition(ends);
        self.leases = stay;
        self.old.extend(Vec::<Lease>::into_iter(gone).map(|lease| (lease.holder, lease.token)));
    }

    /// Writes a file; a third of the time under a token, half of the time from a version.
    async fn write(&mut self, random: &mut Random, actors: &[Actor]) {
        let (agent, path) = (random.below(AGENTS.len()), random.below(PATHS.len()));
        let text = format!("{agent} wrote {}", self.writes);
        let mut arguments = json!({ "task_id": "t", "path": PATHS[path], "content": text });
        let own: Vec<i64> =
            self.leases.iter().filter(|lease| lease.holder == agent).map(|lease| lease.token).collect();
        let old: Vec<i64> =
            self.old.iter().filter(|(holder, _)| *holder == agent).map(|(_, token)| *token).collect();
        let token = match random.below(6) {
            0 => own.last().copied(),
            1 => old.last().copied(),
            _ => None,
        };
        if let Some(token) = token {
            arguments["token"] = token.into();
        }
        let version = self.version(path);
        let builds_on = match random.below(4) {
            0 => Some(version),
            1 => Some((version + random.below(3) as i64 - 1).max(0)),
            _ => None,
        };
        if let Some(expected) = builds_on {
            arguments["expected_version"] = expected.into();
        }
        let fits = match builds_on {
            Some(expected) => expected == version,
            None => version == 0 || self.seen.get(&(agent, path)) == Some(&version),
        };
        let expected = match self.write_refused(agent, path, token) {
            Some(refused) => refused,
            None if !fits => "version_conflict",
            None => "ok",
        };
        let answer = tool(&actors[agent], "file_write", arguments).await;
        answer.must(word(&answer) == expected, expected);
        if expected == "ok" {
            let file = self.files.entry(path).or_default();
            *file = File { version: file.version + 1, content: Some(text) };
            assert_eq!(answer.json()["version"], file.version);
            self.seen.insert((agent, path), file.version);
            self.writes += 1;
        }
    }

    async fn delete(&mut self, random: &mut Random, actors: &[Actor]) {
        let (agent, path) = (random.below(AGENTS.len()), random.below(PATHS.len()));
        let version = self.version(path);
        let arguments = json!({ "task_id": "t", "path": PATHS[path], "expected_version": version });
        let expected = match self.write_refused(agent, path, None) {
            Some(refused) => refused,
            None if version == 0 => "not_found",
            None => "ok",
        };
        let answer = tool(&actors[agent], "file_delete", arguments).await;
        answer.must(word(&answer) == expected, expected);
        if expected == "ok" {
            self.files.insert(path, File { version: version + 1, content: None });
            self.writes += 1;
        }
    }

    async fn read(&mut self, random: &mut Random, actors: &[Actor]) {
        let (agent, path) = (random.below(AGENTS.len()), random.below(PATHS.len()));
        let answer = tool(&actors[agent], "file_read", json!({ "task_id": "t", "path": PATHS[path] })).await;
        match self.files.get(&path).and_then(|file| Some((file.version, file.content.as_deref()?))) {
            Some((version, content)) => {
                let read = answer.json_of(200);
                assert_eq!(
                    (read["version"].as_i64(), read["content"].as_str()),
                    (Some(version), Some(content))
                );
                self.seen.insert((agent, path), version);
            }
            None => drop(answer.must(word(&answer) == "not_found", "there is no such file")),
        }
    }

    async fn claim(&mut self, random: &mut Random, actors: &[Actor]) {
        let (agent, pattern) = (random.below(AGENTS.len()), random.below(PATTERNS.len()));
        let shared = random.below(3) == 0;
        let arguments =
            json!({ "task_id": "t", "path": PATTERNS[pattern].0, "shared": shared, "ttl_seconds": 600 });
        let is_own =
            |lease: &&Lease| lease.holder == agent && lease.pattern == pattern && lease.shared == shared;
        let own = self.leases.iter().find(is_own).map(|lease| lease.token);
        let held = self.leases.iter().any(|lease| {
            lease.holder != agent && !(lease.shared && shared) && overlap(lease.pattern, pattern)
        });
        let answer = tool(&actors[agent], "claim_file", arguments).await;
        let expected = if held && own.is_none() { "lease_held" } else { "ok" };
        answer.must(word(&answer) == expected, expected);
        if expected == "ok" {
            let token = answer.json()["token"].as_i64().unwrap();
            match own {
                Some(own) => assert_eq!(token, own, "the own lease is renewed"),
                None => {
                    answer.must(token > self.last_token, "each token is higher than all before");
                    self.last_token = token;
                    self.leases.push(Lease { pattern, shared, holder: agent, token });
                }
            }
        }
    }

    async fn release(&mut self, random: &mut Random, actors: &[Actor]) {
        let (agent, pattern) = (random.below(AGENTS.len()), random.below(PATTERNS.len()));
        let mut arguments = json!({ "task_id": "t", "path": PATTERNS[pattern].0 });
        let token = self.leases.get(random.below(self.leases.len().max(1))).map(|lease| lease.token);
        let token = token.filter(|_| random.below(3) == 0);
        if let Some(token) = token {
            arguments["token"] = token.into();
        }
        let fits = |lease: &&Lease| {
            lease.holder == agent
                && lease.pattern == pattern
                && token.is_none_or(|token| token == lease.token)
        };
        let mut own: Vec<(bool, i64)> =
            self.leases.iter().filter(fits).map(|lease| (lease.shared, -lease.token)).collect();
        // A shared and an exclusive one end together; the exclusive one is in the answer.
        own.sort_unstable();
        let answer = tool(&actors[agent], "release_file", arguments).await;
        let expected = if own.is_empty() { "stale_token" } else { "ok" };
        answer.must(word(&answer) == expected, expected);
        if let Some((_, token)) = own.first() {
            assert_eq!(answer.json()["token"], -token);
            self.end(|lease| own.contains(&(lease.shared, -lease.token)));
        }
    }
}

async fn operations_are_as_in_a_model(backend: Backend) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("MODEL_SECONDS").unwrap_or(6);
    let seed = number("MODEL_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ nanoseconds());
    println!("MODEL_SEED={seed}");
    let mut random = Random(seed);
    let mut app = TestApp::start(backend, Settings::new()).await;
    let url = match &app.storage.database_url {
        Some(url) => url.clone(),
        None => format!("sqlite:{}", app.data_dir().join("trunkline.db").display()),
    };
    let outside = Database::connect(url).await.unwrap();
    let mut actors = Vec::new();
    for agent in AGENTS {
        actors.push(app.as_agent(agent).await);
    }
    make_task(&actors[0], "t").await;
    let mut model = Model::default();
    let (started, mut operations) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        operations += 1;
        match random.below(100) {
            0..40 => model.write(&mut random, &actors).await,
            40..45 => model.delete(&mut random, &actors).await,
            45..65 => model.read(&mut random, &actors).await,
            65..80 => model.claim(&mut random, &actors).await,
            80..96 => model.release(&mut random, &actors).await,
            96..99 => {
                let all = "UPDATE task_leases SET expires_at = 1";
                outside.execute_unprepared(all).await.unwrap();
                model.end(|_| true);
            }
            _ => {
                app.kill().await;
                app.boot(None).await;
                if app.storage.redis_url.is_none() {
                    // What agents saw is kept in memory; they read again.
                    model.seen.clear();
                }
            }
        }
    }
    assert!(operations > 50, "{operations}");
    let mut versions = 0;
    for (path, file) in &model.files {
        let history =
            done(&actors[0], "file_history", json!({ "task_id": "t", "path": PATHS[*path], "limit": 1000 }))
                .await;
        let rows = history["versions"].as_array().unwrap();
        assert_eq!(rows.len() as i64, file.version.min(1000), "the version is the number of writes");
        let tokens: Vec<i64> = rows.iter().rev().filter_map(|row| row["token"].as_i64()).collect();
        assert!(tokens.is_sorted(), "tokens of a file never fall: {tokens:?}");
        versions += file.version;
    }
    assert_eq!(versions, model.writes);
}

fn nanoseconds() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}
