//! The limits of this process (`governor`) and those of Redis (`admit.lua`) decide alike: a random
//! sequence of calls and waits, asked of both at the same time of the same clock.

use std::time::Duration;

use governor::clock::FakeRelativeClock;
use protocol::TenantId;
use proxy::state::{Bucket, LimitKey, Limiter, Quota, RedisSettings, RedisState, StateStore};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, cmd};
use uuid::Uuid;

use crate::redis_server::RedisServer;

/// Sequences, each with a quota and a key of its own, and the decisions in each.
const SEQUENCES: u64 = 60;
const DECISIONS: u64 = 60;

/// The least time that one call takes of a window.
const LEAST: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_redis_decide_alike() {
    let Some(server) = RedisServer::start().await else { return };
    let store = RedisState::open(&RedisSettings::new(server.url())).unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut random = Random(0x5eed);
    let (mut passed, mut refused, mut never) = (0, 0, 0);
    for sequence in 0..SEQUENCES {
        let max = 1 + random.below(if sequence % 2 == 0 { 8 } else { 2000 }) as u32;
        // Seldom divisible by the maximum, and long enough for a round trip to be short beside one call.
        let more = random.below([1_000, 1_000_000, 86_400_000_000][sequence as usize % 3]);
        let window = LEAST * max + Duration::from_micros(more);
        let mut both = Both::new(&store, connection.clone(), Quota::new(max, window)).await;
        for _ in 0..DECISIONS {
            match random.below(8) {
                0 => both.pass(window / (1 + random.below(2 * u64::from(max)) as u32)).await,
                1 => both.pass(Duration::from_micros(1 + random.below(1000))).await,
                _ => {}
            }
            let cost = match random.below(10) {
                0 => 0,
                1 => max + 1 + random.below(3) as u32,
                2..5 => 1 + random.below(u64::from(max)) as u32,
                _ => 1,
            };
            match both.admit(cost).await {
                true => passed += 1,
                false if cost > max => never += 1,
                false => refused += 1,
            }
        }
    }
    assert!(
        passed > 500 && refused > 500 && never > 100,
        "{passed} passed, {refused} refused, {never} never"
    );
}

/// One limit in both places. Memory's clock follows that of Redis; waits are simulated in both.
struct Both<'a> {
    redis: &'a RedisState,
    connection: MultiplexedConnection,
    memory: Limiter<FakeRelativeClock>,
    clock: FakeRelativeClock,
    /// The time of Redis, with the simulated waits, at which memory's clock stands.
    now: u64,
    /// The simulated waits.
    ahead: u64,
    key: LimitKey,
    quota: Quota,
}

impl<'a> Both<'a> {
    async fn new(redis: &'a RedisState, connection: MultiplexedConnection, quota: Quota) -> Self {
        let clock = FakeRelativeClock::default();
        let memory = Limiter::with_clock(clock.clone());
        let key = LimitKey::new(TenantId::new(), Bucket::Caller, Uuid::now_v7());
        let mut both = Self { redis, connection, memory, clock, now: 0, ahead: 0, key, quota };
        both.now = both.time().await;
        both
    }

    /// Lets simulated time go by: in Redis by an earlier arrival time.
    async fn pass(&mut self, time: Duration) {
        let time = time.as_micros() as u64;
        self.ahead += time;
        if let Some(arrival) = self.arrival().await {
            let earlier = arrival.saturating_sub(time);
            let _: () = self.connection.set(self.key.to_string(), earlier).await.unwrap();
        }
    }

    /// Asks both, and says whether the calls passed.
    async fn admit(&mut self, cost: u32) -> bool {
        let there = self.redis.admit(self.key, &self.quota, cost).await.unwrap();
        // The script's own time, where its answer and what it stored tell it.
        let now = match self.arrival().await {
            Some(arrival) if !there.reset_after.is_zero() => {
                arrival + self.ahead - there.reset_after.as_micros() as u64
            }
            _ => self.time().await,
        };
        self.clock.advance(Duration::from_micros(now - self.now));
        self.now = now;
        let here = self.memory.admit(self.key, &self.quota, cost);

        let context = format!("{cost} of {:?}:\nRedis  {there:?}\nmemory {here:?}", self.quota);
        assert_eq!((here.allowed, here.remaining), (there.allowed, there.remaining), "{context}");
        let interval = self.quota.window / self.quota.max;
        if here.allowed && cost > 0 {
            // The documented rounding: up to one interval later.
            let late = here.reset_after.checked_sub(there.reset_after);
            assert!(late.is_some_and(|late| late <= interval), "{context}");
        } else {
            assert_eq!(here.reset_after, there.reset_after, "{context}");
        }
        assert_eq!(here.retry_after, there.retry_after, "{context}");
        there.allowed
    }

    /// The stored arrival time, kept from expiring between two looks at it.
    async fn arrival(&mut self) -> Option<u64> {
        let _: bool = self.connection.persist(self.key.to_string()).await.unwrap();
        self.connection.get(self.key.to_string()).await.unwrap()
    }

    async fn time(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut self.connection).await.unwrap();
        seconds * 1_000_000 + micros + self.ahead
    }
}

/// SplitMix64: the same sequence in every run.
struct Random(u64);

impl Random {
    /// Returns a number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
