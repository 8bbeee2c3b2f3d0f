//! Counts in Redis, for all processes together: one script for both windows, whose
//! keys lie in one Cluster slot. The script checks both windows before it counts in
//! either, so a refused request changes nothing.
//!
//! The keys are `ratelimit:{client}` and `ratelimit_hour:{client}`, each a number that expires
//! with its window; an application with a namespace has `ratelimit:{shop:client}`. They lie in the application's other Redis, `redis.default.cluster`, not in
//! the job queue's. The whole question takes at most [`COUNT_TIMEOUT`]: a request must not wait
//! long only to learn that it may pass.
//!
//! The script writes the expiry with every count (`SET … PX`), taken from what was left of it.
//! So it leaves no key without expiry, even if Redis stops in between.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::{FromRedisValue, Value};
use tokio::sync::OnceCell;

use super::{CountedRequest, HOUR, Limits, MINUTE};
use crate::error::Error;
use crate::job::Namespace;
use crate::pool::{LuaScript, PoolSettings, RedisPool, Repeat, ScriptCall, Topology};

/// Maximum time that a request waits to be counted.
const COUNT_TIMEOUT: Duration = Duration::from_millis(500);

/// KEYS[1], KEYS[2]  the windows of a minute and of an hour
/// ARGV[1], ARGV[2]  how many requests each may hold; 0: the hour has no limit
/// ARGV[3], ARGV[4]  their lengths in milliseconds
///
/// Returns 1 if the request passes, then of each window its requests and the
/// milliseconds until it ends. A key without an end would lock its client out for ever:
/// such a window begins again, and so does one that holds no number.
static COUNT: LazyLock<LuaScript> = LazyLock::new(|| {
    LuaScript::new(
        "count a request",
        "
local windows, passes = {}, true
for nth = 1, 2 do
  local limit = tonumber(ARGV[nth])
  local count = limit > 0 and tonumber(redis.call('GET', KEYS[nth]))
  local left = count and redis.call('PTTL', KEYS[nth]) or 0
  if left < 1 then count, left = 0, tonumber(ARGV[nth + 2]) end
  windows[nth] = {count, left}
  if limit > 0 and count >= limit then passes = false end
end
for nth = 1, passes and 2 or 0 do
  if tonumber(ARGV[nth]) > 0 then
    local window = windows[nth]
    window[1] = window[1] + 1
    redis.call('SET', KEYS[nth], string.format('%d', window[1]), 'PX', window[2])
  end
end
return {passes and 1 or 0, windows[1][1], windows[1][2], windows[2][1], windows[2][2]}",
    )
});

/// Counts in Redis. It connects at the first request, so a Redis that is away does not stop the
/// launch.
pub(crate) struct RedisCounter {
    settings: PoolSettings,
    /// Whose requests are counted, if other applications count in the same Redis.
    namespace: Option<Namespace>,
    /// Created once the servers have said whether they are a Cluster.
    pool: OnceCell<RedisPool>,
}

impl RedisCounter {
    /// # Errors
    /// [`Error::is_config`] for invalid addresses.
    pub(crate) fn new(settings: PoolSettings, namespace: Option<Namespace>) -> Result<Self, Error> {
        let settings = PoolSettings {
            read_timeout: settings.read_timeout.min(COUNT_TIMEOUT),
            dial_timeout: settings.dial_timeout.min(COUNT_TIMEOUT),
            request_limit: COUNT_TIMEOUT,
            ..settings
        };
        RedisPool::quiet(settings.clone())?;
        Ok(Self { settings, namespace, pool: OnceCell::new() })
    }

    /// Counts a request of this client, unless a window is full.
    ///
    /// # Errors
    /// Any error of Redis, and no answer within half a second. The request may have been counted.
    pub(crate) async fn count(
        &self,
        client: &str,
        limits: Limits,
    ) -> Result<CountedRequest, Error> {
        let counted = tokio::time::timeout(COUNT_TIMEOUT, self.ask(client, limits)).await;
        counted.unwrap_or_else(|_| Err(Error::unavailable("no answer in time")))
    }

    /// Sends the script, once: a repetition could count twice.
    async fn ask(&self, client: &str, limits: Limits) -> Result<CountedRequest, Error> {
        let pool = self.pool.get_or_try_init(|| self.connect()).await?;
        let client = match &self.namespace {
            Some(namespace) => namespace.stored_text(client),
            None => client.to_owned(),
        };
        let call = |_| {
            // The braces bring both keys into one slot.
            ScriptCall::new()
                .key(format!("ratelimit:{{{client}}}"))
                .key(format!("ratelimit_hour:{{{client}}}"))
                .arg(limits.minute)
                .arg(limits.hour.unwrap_or(0))
                .arg(MINUTE.as_millis() as u64)
                .arg(HOUR.as_millis() as u64)
        };
        let answer = pool.eval(&COUNT, Repeat::Never, call).await?;
        let [passes, minute, minute_left, hour, hour_left] = numbers(answer)?;
        let window = |count: u64, left: u64| {
            (u32::try_from(count).unwrap_or(u32::MAX), Duration::from_millis(left))
        };
        let (minute, hour) = (window(minute, minute_left), window(hour, hour_left));
        Ok(CountedRequest::of(limits, passes == 1, minute, hour))
    }

    /// Asks the servers whether they are a Cluster. The configuration cannot know: one
    /// address may belong to a Cluster, and a list may name a single server.
    async fn connect(&self) -> Result<RedisPool, Error> {
        let addrs = match &self.settings.topology {
            Topology::Sentinel { .. } | Topology::Unix(_) => {
                return RedisPool::quiet(self.settings.clone());
            }
            Topology::Single(addr) => std::slice::from_ref(addr),
            Topology::Cluster(addrs) => addrs.as_slice(),
        };
        // Concurrently, so that a server that is away delays no other.
        let asked = addrs.iter().map(|addr| {
            let topology = Topology::Single(addr.clone());
            let settings = PoolSettings { topology, ..self.settings.clone() };
            Box::pin(async move {
                let pool = RedisPool::quiet(settings)?;
                let info = |_| {
                    let mut info = redis::cmd("INFO");
                    info.arg("cluster");
                    info
                };
                let answer = pool.run(Repeat::Safe, info).await?;
                let text = String::from_redis_value(answer).unwrap_or_default();
                Ok::<_, Error>((pool, text.contains("cluster_enabled:1")))
            })
        });
        let ((pool, is_cluster), _) = select_ok(asked).await?;
        if !is_cluster {
            return Ok(pool);
        }
        let topology = Topology::Cluster(addrs.to_vec());
        RedisPool::quiet(PoolSettings { topology, ..self.settings.clone() })
    }
}

/// The five numbers of the script's reply. Anything else is an error: another program may hold
/// one of the keys.
fn numbers(answer: Value) -> Result<[u64; 5], Error> {
    let numbers = Vec::<u64>::from_redis_value(answer).ok();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| Error::refused("the store gave an answer that is none"))
}
