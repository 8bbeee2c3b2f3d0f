//! Links that are half open, and servers that refuse, hang up or lose their role.

use super::*;

/// Passes bytes on until it is muted; connections made after that live.
async fn half_open_proxy(target: String) -> (String, Arc<Mutex<Arc<AtomicBool>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let current = Arc::new(Mutex::new(Arc::new(AtomicBool::new(false))));
    let muted = current.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let muted = muted.lock().unwrap().clone();
            let server = TcpStream::connect(&target).await.unwrap();
            let (client, server) = (client.into_split(), server.into_split());
            for (mut from, mut to) in [(client.0, server.1), (server.0, client.1)] {
                let muted = muted.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = from.read(&mut bytes).await {
                        if !muted.load(Ordering::SeqCst) && to.write_all(&bytes[..n]).await.is_err()
                        {
                            break;
                        }
                    }
                    // Swallowed in silence, never closed.
                    if muted.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                });
            }
        }
    });
    (addr, current)
}

#[tokio::test]
async fn a_half_open_link_is_given_up_and_replaced() {
    let server = RedisServer::start(&NO_ARGS);
    let (addr, muted) = half_open_proxy(server.addr()).await;
    let pool = RedisPool::new(settings(addr)).unwrap();
    pool.ping().await.unwrap();
    let old = std::mem::take(&mut *muted.lock().unwrap());
    old.store(true, Ordering::SeqCst);
    heals(&pool).await;
    within(AT_ONCE, increment(&pool, Repeat::Never)).await.unwrap();
}

#[tokio::test]
async fn a_demoted_master_is_unavailable_until_it_is_one_again() {
    let server = RedisServer::start(&NO_ARGS);
    let pool = pool(&server);
    increment(&pool, Repeat::Never).await.unwrap();
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    for repeat in [Repeat::Never, Repeat::Safe] {
        let error = increment(&pool, repeat).await.unwrap_err();
        assert!(error.is_unavailable() && !error.is_outcome_unknown(), "{error:?}");
    }
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    increment(&pool, Repeat::Never).await.unwrap();
    assert_eq!(server.cli(&["GET", "n"]), "2");
}

/// Answers PING, and each INCRBY with `line`; without one it hangs up.
async fn fake_redis(line: Option<&'static str>) -> (String, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(n @ 1..) = client.read(&mut bytes).await {
                    let is_incr = String::from_utf8_lossy(&bytes[..n]).contains("INCRBY");
                    if is_incr {
                        counted.lock().unwrap().push(Instant::now());
                    }
                    let answer = match line {
                        _ if !is_incr => "+PONG\r\n",
                        Some(line) => line,
                        None => return,
                    };
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (addr, seen)
}

#[tokio::test]
async fn only_what_is_safe_or_did_not_run_is_repeated_and_with_pauses() {
    let hangs_up = None;
    let loading = Some("-LOADING Redis is loading the dataset in memory\r\n");
    let full = Some("-OOM command not allowed\r\n");
    let table = [
        (hangs_up, Repeat::Never, 1, "Redis did not answer in time"),
        (hangs_up, Repeat::Safe, 3, "Redis did not answer in time"),
        (loading, Repeat::Never, 3, "Redis is not connected"),
        (loading, Repeat::Safe, 3, "Redis is not connected"),
        (full, Repeat::Safe, 1, "storage is full"),
    ];
    for (line, repeat, expected, message) in table {
        let (addr, seen) = fake_redis(line).await;
        let pool = RedisPool::new(PoolSettings {
            min_retry_backoff: Duration::from_millis(60),
            max_retry_backoff: Duration::from_millis(100),
            ..settings(addr)
        })
        .unwrap();
        let mut numbers = Vec::new();
        let build = |attempt| {
            numbers.push(attempt);
            redis::Cmd::incr("n", 1)
        };
        let error = pool.run(repeat, build).await.unwrap_err();
        assert_eq!(error.to_string(), message, "{line:?} {repeat:?}");
        let may_have_run = |attempt| if line == hangs_up { attempt } else { 0 };
        let told: Vec<u32> = (0..expected).map(may_have_run).collect();
        assert_eq!(numbers, told, "{line:?} {repeat:?}");
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), expected as usize, "{line:?} {repeat:?}");
        for gap in seen.windows(2).map(|pair| pair[1] - pair[0]) {
            assert!(gap >= Duration::from_millis(58), "{gap:?}");
            // The wait is 100 ms at most; the rest is room for a busy machine.
            assert!(gap <= Duration::from_secs(3), "{gap:?}");
        }
    }
}

/// A server behind one address of which the first connection leads to a demoted one, whose
/// scripts Redis 6.2 answers like that; the others lead to the new master.
async fn demoted_behind_one_address() -> (String, Arc<Mutex<u32>>) {
    const WRAPPED: &str = "-ERR Error running script (call to \
        f_01815836314e46b22a5da0911e651485b9473802): @user_script:25: @user_script: 25: -READONLY \
        You can't write against a read only replica.\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(Mutex::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let demoted = *counted.lock().unwrap() == 1;
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = client.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                    let answers = text.split('*').skip(1).map(|command| match command {
                        _ if command.contains("PING") => "+PONG\r\n",
                        _ if command.contains("EVALSHA") && demoted => WRAPPED,
                        _ => ":1\r\n",
                    });
                    let answers: String = answers.collect();
                    client.write_all(answers.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (addr, connections)
}

/// Issue 12, C14: on Redis 6.2 a failover behind one address stopped every enqueue.
#[tokio::test]
async fn a_demotion_that_a_script_met_leads_to_another_connection_whoever_reads_it() {
    let call = |_| ScriptCall::new().key("k");
    let script = LuaScript::new("one", "return 1");
    let evalsha = || {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.sha()).arg(1).arg("k");
        command
    };
    let several = |_| {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("k").add_command(evalsha());
        pipeline
    };
    for way in ["script", "pipeline", "raw", "raw pipeline"] {
        let (addr, connections) = demoted_behind_one_address().await;
        let pool = RedisPool::new(settings(addr)).unwrap();
        let mut raw = pool.connection();
        let mut works = async || match way {
            // Nothing was written, so it is sent again at once.
            "script" => pool.eval(&script, Repeat::Never, call).await.map_err(drop).map(drop),
            "pipeline" => pool.run_pipeline(Repeat::Safe, several).await.map_err(drop).map(drop),
            "raw" => evalsha().query_async::<()>(&mut raw.clone()).await.map_err(drop),
            _ => several(0).query_async::<()>(&mut raw).await.map_err(drop),
        };
        let first = works().await;
        assert_eq!(first.is_ok(), !way.starts_with("raw"), "{way}");
        assert_eq!(works().await, Ok(()), "{way}");
        assert_eq!(*connections.lock().unwrap(), 2, "{way}");
    }
}
