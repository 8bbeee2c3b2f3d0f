//! The least that keeps Asynq's keys right: what Redis allows to a client that asks for
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::common::{Measured, Meter, Options, Outcome, Scenario};

/// Jobs of one script, and drains in flight.
const BATCH: usize = 100;
const FLIGHTS: usize = 2;

const ENQUEUE: &str = "
local ids = {}
for at = 2, #ARGV, 2 do
  local key = 'asynq:{default}:t:' .. ARGV[at]
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'msg', ARGV[at + 1], 'state', 'pending', 'pending_since', ARGV[1])
    ids[#ids + 1] = ARGV[at]
  end
end
redis.call('LPUSH', KEYS[1], unpack(ids))
return #ids";

const SWAP: &str = "
local P = 'asynq:{default}:'
for at = 4, #ARGV do
  local id = ARGV[at]
  redis.call('LREM', P .. 'active', -1, id)
  redis.call('ZREM', P .. 'lease', id)
  redis.call('DEL', P .. 't:' .. id)
end
if #ARGV > 3 then
  redis.call('INCRBY', P .. 'processed:' .. ARGV[3], #ARGV - 3)
  redis.call('INCRBY', P .. 'processed', #ARGV - 3)
end
local answer, leases = {}, {}
if redis.call('EXISTS', P .. 'paused') == 1 then return answer end
local ids = redis.call('RPOP', KEYS[1], ARGV[1]) or {}
for nth, id in ipairs(ids) do
  local key = P .. 't:' .. id
  answer[2 * nth - 1], answer[2 * nth] = id, redis.call('HGET', key, 'msg')
  redis.call('HSET', key, 'state', 'active')
  redis.call('HDEL', key, 'pending_since')
  leases[2 * nth - 1], leases[2 * nth] = ARGV[2], id
end
if #ids > 0 then
  redis.call('LPUSH', P .. 'active', unpack(ids))
  redis.call('ZADD', P .. 'lease', unpack(leases))
end
return answer";

/// A task message in protobuf: type, payload, id, queue, retries and timeout.
fn message(id: &str, n: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(96);
    let payload = format!("{{\"n\":{n}}}");
    for (tag, text) in [(0x0a, "noop"), (0x12, payload.as_str()), (0x1a, id), (0x22, "default")] {
        bytes.extend([tag, text.len() as u8]);
        bytes.extend(text.as_bytes());
    }
    bytes.extend([0x28, 25, 0x40, 0x88, 0x0e]);
    bytes
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

async fn enqueue(
    redis: &mut MultiplexedConnection,
    script: &Script,
    numbers: std::ops::Range<usize>,
) -> Outcome<()> {
    let mut call = script.key("asynq:{default}:pending");
    call.arg(now().as_nanos() as u64);
    for n in numbers {
        let id = uuid::Uuid::new_v4().to_string();
        let bytes = message(&id, n);
        call.arg(id).arg(bytes);
    }
    call.invoke_async::<()>(redis).await?;
    Ok(())
}

/// This many callers, each with this many jobs at a time.
async fn fill(
    redis: &MultiplexedConnection,
    jobs: usize,
    callers: usize,
    batch: usize,
) -> Outcome<()> {
    let (next, script) = (Arc::new(AtomicUsize::new(0)), Arc::new(Script::new(ENQUEUE)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (mut redis, next, script) = (redis.clone(), Arc::clone(&next), Arc::clone(&script));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= jobs {
                    return Ok(());
                }
                enqueue(&mut redis, &script, first..jobs.min(first + batch)).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let ended: Outcome<()> = ended?;
        ended?;
    }
    Ok(())
}

async fn drain(
    mut redis: MultiplexedConnection,
    lane: usize,
    left: Arc<AtomicUsize>,
) -> Outcome<()> {
    let script = Script::new(SWAP);
    let mut ended: Vec<String> = Vec::new();
    while left.load(Ordering::Relaxed) > 0 {
        let mut call = script.key("asynq:{default}:pending");
        call.arg(lane).arg(now().as_secs() + 30).arg("2026-01-01");
        for id in &ended {
            call.arg(id);
        }
        let found: Vec<(String, Vec<u8>)> = call.invoke_async(&mut redis).await?;
        left.fetch_sub(ended.len(), Ordering::Relaxed);
        ended = found.into_iter().map(|(id, _)| id).collect();
    }
    Ok(())
}

pub async fn run(
    options: &Options,
    redis: &mut MultiplexedConnection,
) -> Outcome<(Meter, Measured)> {
    let callers = match options.scenario {
        Scenario::EnqueueOne => (1, 1),
        Scenario::EnqueueConcurrent => (options.concurrency, 1),
        Scenario::EnqueueBulk => (options.concurrency, BATCH),
        Scenario::Drain => {
            fill(redis, options.jobs, 2, BATCH).await?;
            let left = Arc::new(AtomicUsize::new(options.jobs));
            let lane = options.concurrency.div_ceil(FLIGHTS).min(BATCH);
            let meter = Meter::begin(&options.redis)?;
            let lanes =
                (0..FLIGHTS).map(|_| tokio::spawn(drain(redis.clone(), lane, Arc::clone(&left))));
            for lane in lanes.collect::<Vec<_>>() {
                lane.await??;
            }
            let took = meter.elapsed();
            return Ok((meter, Measured::Took(took)));
        }
        Scenario::Latency | Scenario::Delay => return Err("bare: not one of its lines".into()),
    };
    let meter = Meter::begin(&options.redis)?;
    fill(redis, options.jobs, callers.0, callers.1).await?;
    let took = meter.elapsed();
    Ok((meter, Measured::Took(took)))
}
