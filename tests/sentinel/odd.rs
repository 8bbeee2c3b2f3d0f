//! Sentinels that want a password, hang, or say what is not so.

use std::time::{Duration, Instant};

use rocket_jobqueue::internals::{PoolSettings, RedisPool, Repeat, Topology};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::producers::{PATIENCE, settings};
use super::support::fleet::WatchedTrio;
use super::support::{RedisServer, eventually};

fn bulk(words: &[String]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

/// A Sentinel that says this and nothing else.
pub async fn says(master: (&str, u16), epoch: u64) -> String {
    says_on("127.0.0.1:0", master, epoch).await
}

pub async fn says_on(addr: &str, (host, port): (&str, u16), epoch: u64) -> String {
    let listener = TcpListener::bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let named = bulk(&[host.to_owned(), port.to_string()]);
    let fields = ["flags", "master", "config-epoch", &epoch.to_string()];
    let about = bulk(&fields.map(str::to_owned));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (named, about) = (named.clone(), about.clone());
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = client.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes[..n]).to_uppercase();
                    let mut answer = String::new();
                    // One per command, in their order.
                    let is_command = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
                    for command in text.split('*').filter(is_command) {
                        answer += match command {
                            _ if command.contains("GET-MASTER-ADDR") => &named,
                            _ if command.contains("SENTINEL") => &about,
                            _ if command.contains("PSUBSCRIBE") => {
                                "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n"
                            }
                            _ if command.contains("PING") => "+PONG\r\n",
                            _ => "+OK\r\n",
                        };
                    }
                    if client.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn topology(addrs: Vec<String>) -> Topology {
    Topology::Sentinel { master: "mymaster".into(), addrs }
}

async fn set(pool: &RedisPool, key: &str) -> Result<(), rocket_jobqueue::Error> {
    pool.run(Repeat::Safe, |_| redis::Cmd::set(key, 1)).await.map(drop)
}

/// Issue 12, A4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_with_a_password_are_asked_with_theirs_and_not_with_the_servers() {
    let trio = WatchedTrio::start("requirepass hush\n").await;
    let pool = RedisPool::new(settings(trio.topology(), 0)).unwrap();
    let refused = pool.ping().await.unwrap_err();
    assert!(refused.is_refused(), "{refused:?}");
    assert_eq!(refused.to_string(), "not permitted by the storage (credentials)");

    let with = |username: Option<&str>, password: &str| {
        RedisPool::new(PoolSettings {
            sentinel_username: username.map(str::to_owned),
            sentinel_password: Some(password.to_owned()),
            ..settings(trio.topology(), 0)
        })
        .unwrap()
    };
    assert!(with(None, "wrong").ping().await.unwrap_err().is_refused());
    for username in [None, Some("default")] {
        let pool = with(username, "hush");
        set(&pool, "k").await.unwrap();
        assert!(!format!("{pool:?}").contains("hush"));
    }
    assert_eq!(trio.master.cli(&["GET", "k"]), "1");

    // And it learns of a failover.
    let pool = with(None, "hush");
    pool.ping().await.unwrap();
    trio.fail_over().await;
    let there = || async {
        set(&pool, "after").await.is_ok()
            && trio.replicas.iter().any(|server| {
                server.cli(&["ROLE"]).starts_with("master") && server.cli(&["GET", "after"]) == "1"
            })
    };
    assert!(eventually(Duration::from_secs(5), there).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_ask_for_the_address_follows_all_the_same() {
    let rules = "user bare on >pw resetchannels -@all +auth +ping \
                 +sentinel|get-master-addr-by-name\n";
    let trio = WatchedTrio::start(rules).await;
    let pool = RedisPool::new(PoolSettings {
        sentinel_username: Some("bare".to_owned()),
        sentinel_password: Some("pw".to_owned()),
        ..settings(trio.topology(), 0)
    })
    .unwrap();
    pool.ping().await.unwrap();
    trio.fail_over().await;
    // The old master calls itself master for ten more seconds, and none of these keys
    // gets from there to the new one.
    let named = || async {
        let named = |sentinel: &&RedisServer| {
            let addr = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
            !addr.ends_with(&trio.master.port().to_string())
        };
        trio.sentinels.iter().filter(named).count() >= 2
    };
    assert!(eventually(PATIENCE, named).await);
    let began = Instant::now();
    let serving = trio.serving().await;
    let moved =
        || async { set(&pool, "after").await.is_ok() && serving.cli(&["GET", "after"]) == "1" };
    let in_time = eventually(Duration::from_secs(3), moved).await;
    println!("moved {:?} after two of three Sentinels named the new master", began.elapsed());
    assert!(in_time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_hangs_delays_neither_the_start_nor_a_failover() {
    let trio = WatchedTrio::start("").await;
    let start = async |username: Option<&str>| {
        // With another one it knows nothing from another pool.
        let sentinel_username = username.map(str::to_owned);
        let ours = PoolSettings { sentinel_username, ..settings(trio.topology(), 0) };
        let (began, pool) = (Instant::now(), RedisPool::new(ours).unwrap());
        set(&pool, "k").await.unwrap();
        (began.elapsed(), pool)
    };
    let (before, other) = start(None).await;
    drop(other);
    trio.sentinels[2].freeze();
    let (took, pool) = start(Some("default")).await;
    println!("start {took:?}, {before:?} where no Sentinel hangs");
    assert!(took < before + Duration::from_millis(500), "{took:?}");
    // Two are enough for a failover.
    trio.fail_over().await;
    let moved = || async {
        set(&pool, "after").await.is_ok()
            && trio.replicas.iter().any(|server| {
                server.cli(&["ROLE"]).starts_with("master") && server.cli(&["GET", "after"]) == "1"
            })
    };
    let in_time = eventually(Duration::from_secs(6), moved).await;
    trio.sentinels[2].thaw();
    assert!(in_time);
}

#[tokio::test]
async fn a_sentinel_that_names_an_old_master_is_not_believed_whoever_answers_first() {
    let (old, new) = (RedisServer::start::<&str>(&[]), RedisServer::start::<&str>(&[]));
    let liar = says(("127.0.0.1", old.port()), 3).await;
    let knows = says(("127.0.0.1", new.port()), 4).await;
    for addrs in [[&liar, &liar, &knows], [&knows, &liar, &liar]] {
        let addrs = addrs.into_iter().cloned().collect();
        let pool = RedisPool::new(settings(topology(addrs), 0)).unwrap();
        for nth in 0..10 {
            set(&pool, &format!("k{nth}")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!((old.cli(&["DBSIZE"]).as_str(), new.cli(&["DBSIZE"]).as_str()), ("0", "10"));
}

/// Whatever epoch it claims: that server is asked, too.
#[tokio::test]
async fn a_sentinel_that_names_a_server_that_is_no_master_is_not_believed() {
    let master = RedisServer::start::<&str>(&[]);
    let port = master.port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    let right = says(("127.0.0.1", master.port()), 3).await;
    for named in [replica.port(), super::support::closed_port()] {
        let liar = says(("127.0.0.1", named), 99).await;
        let addrs = vec![liar, right.clone(), right.clone()];
        let pool = RedisPool::new(settings(topology(addrs), 0)).unwrap();
        let works = || async { set(&pool, "k").await.is_ok() };
        // One that cannot be reached may be the new master for as long as a contradiction takes.
        assert!(eventually(PATIENCE, works).await);
        for _ in 0..20 {
            set(&pool, "k").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
