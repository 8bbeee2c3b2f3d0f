//! The connections to Redis against real servers that come, go, freeze, change
//! their role and forget.

mod support;

use std::time::{Duration, Instant};

use rocket_jobqueue::Error;
use rocket_jobqueue::internals::{
    LuaScript, PoolSettings, RedisPool, Repeat, ScriptCall, Topology,
};
use support::{RedisServer, eventually};

fn settings(addr: String) -> PoolSettings {
    PoolSettings { topology: Topology::Single(addr), ..Default::default() }
}

fn pool(server: &RedisServer) -> RedisPool {
    RedisPool::new(settings(server.addr())).unwrap()
}

const NO_ARGS: [&str; 0] = [];

async fn increment(pool: &RedisPool, repeat: Repeat) -> Result<redis::Value, Error> {
    pool.run(repeat, |_| {
        let mut command = redis::cmd("INCR");
        command.arg("n");
        command
    })
    .await
}

async fn heals(pool: &RedisPool, patience: Duration) {
    let start = Instant::now();
    assert!(eventually(patience, || async { pool.ping().await.is_ok() }).await);
    assert!(start.elapsed() <= patience, "took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_user_with_a_password_works_in_a_database_of_its_own() {
    let server = RedisServer::start(&["--user", "alice", "on", ">secret", "~*", "&*", "+@all"]);
    let pool = RedisPool::new(PoolSettings {
        username: Some("alice".into()),
        password: Some("secret".into()),
        db: 3,
        ..settings(server.addr())
    })
    .unwrap();
    assert!(!pool.is_connected());
    assert_eq!(increment(&pool, Repeat::Never).await.unwrap(), redis::Value::Int(1));
    assert!(pool.is_connected());
    assert_eq!(server.cli(&["-n", "3", "GET", "n"]), "1");
    assert!(!format!("{pool:?} {}", pool.describe()).contains("secret"));
}

#[tokio::test]
async fn without_redis_commands_fail_at_once_and_work_when_it_comes_up() {
    let mut server = RedisServer::prepare(&NO_ARGS);
    let pool = pool(&server);
    let start = Instant::now();
    let error = increment(&pool, Repeat::Safe).await.unwrap_err();
    assert!(error.is_unavailable() && !error.is_outcome_unknown(), "{error:?}");
    assert_eq!(error.to_string(), "Redis is not connected");
    assert!(start.elapsed() < Duration::from_millis(300));
    server.restart();
    assert!(eventually(Duration::from_secs(3), || async { pool.is_connected() }).await);
    increment(&pool, Repeat::Never).await.unwrap();
}

#[tokio::test]
async fn a_flushed_script_is_made_known_again_unseen() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    let script = LuaScript::new("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for expected in 1..=3 {
        server.cli(&["SCRIPT", "FLUSH"]);
        let call = |_| ScriptCall::new().key("sum").arg(1);
        let answer = pool.eval(&script, Repeat::Never, call).await.unwrap();
        assert_eq!(answer, redis::Value::Int(expected));
    }
}

#[tokio::test]
async fn a_killed_and_restarted_redis_is_found_again_while_idle() {
    let mut server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    pool.ping().await.unwrap();
    server.restart();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    increment(&pool, Repeat::Never).await.unwrap();
    server.stop();
    assert!(increment(&pool, Repeat::Never).await.unwrap_err().is_unavailable());
    server.restart();
    heals(&pool, Duration::from_secs(3)).await;
}

#[tokio::test]
async fn a_frozen_redis_costs_a_request_no_more_than_its_limit() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    pool.ping().await.unwrap();
    server.freeze();
    let one = async |repeat| {
        let start = Instant::now();
        let error = increment(&pool, repeat).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_millis(3600), "took {:?}", start.elapsed());
        error
    };
    let (never, safe) = tokio::join!(one(Repeat::Never), one(Repeat::Safe));
    assert!(never.is_outcome_unknown() && safe.is_outcome_unknown(), "{never:?} {safe:?}");
    // By now the connection has been given up, and dialling hangs too.
    let (first, second) = tokio::join!(one(Repeat::Never), one(Repeat::Safe));
    assert!(first.is_unavailable() && second.is_unavailable(), "{first:?} {second:?}");
    server.thaw();
    heals(&pool, Duration::from_secs(3)).await;
}
