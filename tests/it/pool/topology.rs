//! A pool on servers that change their roles: under Sentinel, and in a Cluster.

use super::*;

fn sentinel_pool(pair: &WatchedPair) -> RedisPool {
    RedisPool::new(PoolSettings { topology: pair.topology(), ..Default::default() }).unwrap()
}

#[tokio::test]
async fn a_failover_by_sentinel_is_followed() {
    let mut pair = WatchedPair::start().await;
    let pool = sentinel_pool(&pair);
    assert_eq!(pool.describe(), "sentinel mymaster");
    let stop = CancellationToken::new();
    let (heard, _task) = listen(&pool, &stop);
    increment(&pool, Repeat::Never).await.unwrap();
    assert!(hears(&pair.master, &heard).await);
    assert!(pair.is_in_sync().await);
    pair.master.stop();
    let written = || async { increment(&pool, Repeat::Safe).await.is_ok() };
    assert!(eventually(PATIENCE, written).await, "{}", pair.sentinel.log());
    assert!(pair.replica.cli(&["INFO", "replication"]).contains("role:master"));
    assert!(hears(&pair.replica, &heard).await);
    stop.cancel();
}

#[tokio::test]
async fn a_master_that_sentinel_demotes_is_left_even_while_idle() {
    let pair = WatchedPair::start().await;
    let pool = sentinel_pool(&pair);
    pool.ping().await.unwrap();
    pair.fail_over().await;
    // A client that is neither a Sentinel, nor the other server, nor `redis-cli`.
    let is_ours = |line: &str| {
        let others = ["name=sentinel", "flags=S", "flags=M", "cmd=client"];
        !others.iter().any(|word| line.contains(word))
    };
    let has = |server: &RedisServer| server.cli(&["CLIENT", "LIST"]).lines().any(is_ours);
    let moved = || async { has(&pair.replica) && !has(&pair.master) && pool.is_connected() };
    assert!(eventually(PATIENCE, moved).await, "{}", pair.replica.cli(&["CLIENT", "LIST"]));
    // Once and never repeated, and it arrives.
    increment(&pool, Repeat::Never).await.unwrap();
    assert_eq!(pair.replica.cli(&["GET", "n"]), "1");
}

#[tokio::test]
async fn a_cluster_of_three_works_moves_slots_and_comes_back() {
    let Cluster { mut nodes, .. } = Cluster::start(3, 0, "2000").await;
    let topology = Topology::Cluster(nodes[..2].iter().map(RedisServer::addr).collect());
    let pool = RedisPool::new(PoolSettings { topology, ..Default::default() }).unwrap();
    assert!(pool.is_cluster());
    pool.ping().await.unwrap();

    let set = async |key: String| pool.run(Repeat::Never, |_| redis::Cmd::set(&key, 1)).await;
    for n in 0..20 {
        set(format!("key{n}")).await.unwrap();
    }
    let script = LuaScript::new("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let add = async |repeat| {
        pool.eval(&script, repeat, |_| ScriptCall::new().key("asynq:{q}:n").arg(1)).await
    };
    add(Repeat::Never).await.unwrap();
    let pair = |_| {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("asynq:{q}:n").cmd("GET").arg("asynq:{q}:m");
        pipeline
    };
    let answers = pool.run_pipeline(Repeat::Safe, pair).await.unwrap();
    assert_eq!(answers, [redis::Value::BulkString(b"1".to_vec()), redis::Value::Nil]);

    let stop = CancellationToken::new();
    let (heard, _task) = listen(&pool, &stop);
    assert!(hears(&nodes[2], &heard).await);
    stop.cancel();

    // A slot on its way to another node: what is not here is asked for there.
    let slot = nodes[0].cli(&["CLUSTER", "KEYSLOT", "{moving}"]);
    let owner = nodes
        .iter()
        .position(|node| node.cli(&["GET", "{moving}"]).is_empty())
        .expect("one node owns the slot");
    let taker = (owner + 1) % 3;
    let id = |n: usize| nodes[n].cli(&["CLUSTER", "MYID"]);
    nodes[taker].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(owner)]);
    nodes[owner].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(taker)]);
    set("{moving}asked".into()).await.unwrap();
    for node in [taker, owner] {
        nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(taker)]);
    }
    set("{moving}moved".into()).await.unwrap();
    assert_eq!(nodes[taker].cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), "2");

    for node in &mut nodes {
        node.stop();
    }
    assert!(within(Duration::from_secs(6), add(Repeat::Safe)).await.unwrap_err().is_unavailable());
    for node in &mut nodes {
        node.restart();
    }
    let again = || async { add(Repeat::Safe).await.is_ok() };
    assert!(eventually(PATIENCE, again).await);
}
