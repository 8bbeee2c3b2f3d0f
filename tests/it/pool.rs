//! The connections to Redis against real servers that come, go, freeze, change
//! their role and forget.

mod broken_links;
mod tls;
mod topology;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::fleet::{Cluster, WatchedPair};
use crate::support::log::Log;
use crate::support::{PATIENCE, RedisServer, eventually, within};
use rocket_jobqueue::Error;
use rocket_jobqueue::internals::{
    LuaScript, PoolSettings, RedisPool, Repeat, ScriptCall, Topology,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

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

/// 3 s are promised after Redis is back, and 4.5 s for a half-open link. The rest is room for
/// a busy machine.
const HEALED: Duration = Duration::from_secs(15);

/// "At once", on a busy machine. A request that waits for its server waits 3 s.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn heals(pool: &RedisPool) {
    assert!(eventually(HEALED, || async { pool.ping().await.is_ok() }).await);
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
    let error = within(AT_ONCE, increment(&pool, Repeat::Safe)).await.unwrap_err();
    assert!(error.is_unavailable() && !error.is_outcome_unknown(), "{error:?}");
    assert_eq!(error.to_string(), "Redis is not connected");
    server.restart();
    assert!(eventually(HEALED, || async { pool.is_connected() }).await);
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
    // One client is `redis-cli`, the other the pool's new connection.
    let clients = || server.cli(&["CLIENT", "LIST"]).lines().count();
    let back = || async { clients() == 2 && pool.is_connected() };
    assert!(eventually(HEALED, back).await);
    increment(&pool, Repeat::Never).await.unwrap();
    server.stop();
    assert!(increment(&pool, Repeat::Never).await.unwrap_err().is_unavailable());
    server.restart();
    heals(&pool).await;
}

#[tokio::test]
async fn a_frozen_redis_costs_a_request_no_more_than_its_limit() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    pool.ping().await.unwrap();
    server.freeze();
    let one = async |repeat| {
        // The limit is 3.5 s and two of them are 7 s. The rest is room for a busy machine.
        within(Duration::from_secs(6), increment(&pool, repeat)).await.unwrap_err()
    };
    let (never, safe) = tokio::join!(one(Repeat::Never), one(Repeat::Safe));
    assert!(never.is_outcome_unknown() && safe.is_outcome_unknown(), "{never:?} {safe:?}");
    // By now the connection has been given up, and dialling hangs too.
    let (first, second) = tokio::join!(one(Repeat::Never), one(Repeat::Safe));
    assert!(first.is_unavailable() && second.is_unavailable(), "{first:?} {second:?}");
    server.thaw();
    heals(&pool).await;
}

#[test]
fn a_pool_is_made_outside_a_runtime_and_a_wrong_address_is_a_matter_of_configuration() {
    RedisPool::new(PoolSettings::default()).unwrap();
    let error = RedisPool::new(settings("redis://:secret@localhost".into())).unwrap_err();
    assert!(error.is_config());
    assert!(!format!("{error:?}").contains("secret"));
    let cluster = PoolSettings {
        topology: Topology::Cluster(vec!["localhost:7000".into()]),
        db: 1,
        ..Default::default()
    };
    assert!(RedisPool::new(cluster).unwrap_err().is_config());
}

#[tokio::test]
async fn refused_credentials_are_refused_and_not_unavailable() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    for password in [None, Some("wrong".to_owned())] {
        let pool = RedisPool::new(PoolSettings { password, ..settings(server.addr()) }).unwrap();
        let error = increment(&pool, Repeat::Safe).await.unwrap_err();
        assert!(error.is_refused(), "{error:?}");
        assert_eq!(error.to_string(), "not permitted by the storage (credentials)");
    }
}

#[tokio::test]
async fn a_pipeline_answers_all_or_with_its_first_error() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    let build = |atomic: bool, wrong: bool| {
        move |_| {
            let mut pipeline = redis::pipe();
            pipeline.cmd("SET").arg("word").arg("x").cmd("GET").arg("word");
            if wrong {
                pipeline.cmd("LPUSH").arg("word").arg(1);
            }
            if atomic {
                pipeline.atomic();
            }
            pipeline
        }
    };
    for atomic in [false, true] {
        let answers = pool.run_pipeline(Repeat::Never, build(atomic, false)).await.unwrap();
        assert_eq!(answers, [redis::Value::Okay, redis::Value::BulkString(b"x".to_vec())]);
        let error = pool.run_pipeline(Repeat::Never, build(atomic, true)).await.unwrap_err();
        assert_eq!(error.to_string(), "stored data has an unexpected type");
    }
}

#[tokio::test]
async fn the_library_s_own_commands_run_on_a_connection() {
    let server = RedisServer::start(&NO_ARGS);
    let mut connection = pool(&server).connection();
    let answer: i64 = redis::cmd("INCR").arg("n").query_async(&mut connection).await.unwrap();
    assert_eq!(answer, 1);
    let mut pipeline = redis::pipe();
    pipeline.atomic().cmd("INCR").arg("n").ignore().cmd("GET").arg("n");
    let (answer,): (i64,) = pipeline.query_async(&mut connection).await.unwrap();
    assert_eq!(answer, 2);
    let error = redis::cmd("LPUSH").arg("n").arg(1).exec_async(&mut connection).await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"));
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    let detached = pool.detached();
    pool.ping().await.unwrap();
    detached.ping().await.unwrap();
    let clients = || server.cli(&["CLIENT", "LIST"]).lines().count() - 1;
    assert_eq!(clients(), 2);
    drop(pool);
    assert!(eventually(PATIENCE, || async { clients() == 1 }).await);
    detached.ping().await.unwrap();
}

#[tokio::test]
async fn a_detached_pool_lives_on_another_runtime_and_survives_it() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    let detached = pool.detached();
    let theirs = detached.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(theirs.ping()).unwrap();
    })
    .join()
    .unwrap();
    pool.ping().await.unwrap();
    detached.ping().await.unwrap();
}

#[tokio::test]
async fn a_blocking_command_disturbs_nobody_and_ends_with_its_caller() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    let blocking = pool.blocking(Duration::from_secs(60));
    let take = |seconds: f32| {
        blocking.run(Repeat::Never, move |_| {
            let mut command = redis::cmd("BLMOVE");
            command.arg("from").arg("to").arg("RIGHT").arg("LEFT").arg(seconds);
            command
        })
    };
    assert_eq!(take(0.1).await.unwrap(), redis::Value::Nil);
    let blocked = async |number: u32| {
        let line = format!("blocked_clients:{number}\r");
        eventually(PATIENCE, || async { server.cli(&["INFO", "clients"]).contains(&line) }).await
    };
    // The increment is answered while the command blocks: only the push ends the block.
    let (first, ()) = tokio::join!(take(50.0), async {
        assert!(blocked(1).await);
        increment(&pool, Repeat::Never).await.unwrap();
        server.cli(&["LPUSH", "from", "first"]);
    });
    assert_eq!(first.unwrap(), redis::Value::BulkString(b"first".to_vec()));
    tokio::select! {
        answer = take(50.0) => panic!("{answer:?}"),
        blocks = blocked(1) => assert!(blocks),
    }
    assert!(blocked(0).await);
    server.cli(&["LPUSH", "from", "job"]);
    assert_eq!(take(1.0).await.unwrap(), redis::Value::BulkString(b"job".to_vec()));
}

#[tokio::test]
async fn an_untrusted_certificate_is_not_accepted() {
    let server = RedisServer::prepare(&NO_ARGS).with_tls();
    let file = |name: &str| server.dir().join(name).display().to_string();
    let (key, cert) = (file("key.pem"), file("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .unwrap();
    assert!(made.status.success());
    let args = ["--tls-cert-file", &cert, "--tls-key-file", &key];
    let server = server
        .with_args(&args)
        .with_args(&["--tls-ca-cert-file", &cert, "--tls-auth-clients", "no"])
        .started();
    let addr = format!("localhost:{}", server.port());
    let pool = RedisPool::new(PoolSettings { tls: true, ..settings(addr) }).unwrap();
    let error = pool.ping().await.unwrap_err();
    assert!(error.is_unavailable());
    assert!(format!("{error:?}").contains("invalid peer certificate"), "{error:?}");
}

#[tokio::test]
async fn a_unix_socket_serves_commands_and_subscriptions() {
    let server = RedisServer::prepare(&["--requirepass", "secret"]);
    let socket = server.dir().join("redis.sock");
    let server = server.with_args(&["--unixsocket", socket.to_str().unwrap()]).started();
    let topology = Topology::Unix(socket.clone());
    let password = Some("secret".to_owned());
    let settings = PoolSettings { topology, password, db: 3, ..PoolSettings::default() };
    let pool = RedisPool::new(settings).unwrap();
    pool.ping().await.unwrap();
    hears_what_it_publishes(&pool).await;
    assert_eq!(pool.describe(), format!("{}, database 3", socket.display()));

    drop(server);
    let topology = Topology::Unix("/nowhere/redis.sock".into());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    assert!(pool.ping().await.unwrap_err().is_unavailable());
}

type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

fn listen(pool: &RedisPool, stop: &CancellationToken) -> (Heard, tokio::task::JoinHandle<()>) {
    let heard = Heard::default();
    let notes = heard.clone();
    let on_message = move |channel, body| notes.lock().unwrap().push((channel, body));
    let channels = vec!["news".to_owned(), "more".to_owned()];
    let task = tokio::spawn(pool.subscribe(channels, Arc::new(on_message), stop.clone()));
    (heard, task)
}

/// A subscription of this pool hears what the same pool publishes.
async fn hears_what_it_publishes(pool: &RedisPool) {
    let stop = CancellationToken::new();
    let (heard, task) = listen(pool, &stop);
    let publish = |_| {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg("news").arg("hello");
        publish
    };
    let is_heard = eventually(PATIENCE, || async {
        pool.run(Repeat::Safe, publish).await.unwrap();
        !heard.lock().unwrap().is_empty()
    });
    assert!(is_heard.await);
    stop.cancel();
    task.await.unwrap();
}

async fn hears(server: &RedisServer, heard: &Heard) -> bool {
    heard.lock().unwrap().clear();
    eventually(PATIENCE, || async {
        server.cli(&["PUBLISH", "news", "hello"]);
        heard.lock().unwrap().contains(&("news".to_owned(), b"hello".to_vec()))
    })
    .await
}

#[tokio::test]
async fn a_subscription_finds_its_way_back_and_ends_when_told() {
    let mut server = RedisServer::start(&["--requirepass", "secret"]);
    let secret = Some("secret".to_owned());
    let pool =
        RedisPool::new(PoolSettings { password: secret, ..settings(server.addr()) }).unwrap();
    let stop = CancellationToken::new();
    let (heard, task) = listen(&pool, &stop);
    let publish = async |server: &RedisServer| {
        heard.lock().unwrap().clear();
        eventually(PATIENCE, || async {
            server.cli(&["-a", "secret", "PUBLISH", "more", "x"]);
            heard.lock().unwrap().contains(&("more".to_owned(), b"x".to_vec()))
        })
        .await
    };
    assert!(publish(&server).await);
    server.restart();
    assert!(publish(&server).await);
    stop.cancel();
    within(PATIENCE, task).await.unwrap();
}

#[tokio::test]
async fn connection_loss_and_reconnection_are_logged_once_each() {
    let (log, _guard) = Log::of_this_thread(tracing::Level::INFO);
    let mut server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    let other = pool.detached();
    for _ in 0..3 {
        pool.ping().await.unwrap();
        other.ping().await.unwrap();
    }
    server.stop();
    for _ in 0..10 {
        let _ = pool.ping().await;
        let _ = other.ping().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    server.restart();
    heals(&pool).await;
    let text = log.text();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("rocket_jobqueue::pool"))
        .map(|line| (line.contains("WARN"), line.contains("lost"), line.contains("again")))
        .collect();
    assert_eq!(lines, [(false, false, false), (true, true, false), (false, false, true)], "{text}");
}
