//! Names whose address changes: each dial resolves them again.
//!
//! The test runs itself once more in a mount namespace in which it may write `/etc/hosts`.
//! If that is not permitted, it fails and says what is missing.

use std::process::Command;
use std::time::Duration;

use rocket_jobqueue::internals::{RedisPool, Repeat, Topology};

use super::odd::says_on;
use super::producers::{PATIENCE, settings};
use super::support::{RedisServer, eventually, free_port};

const HOSTS: &str = "JOBQUEUE_TEST_HOSTS";
const NEEDS: &str = "this test needs a mount namespace of its own to change /etc/hosts: permit \
                     `unshare -rm` (sysctl kernel.unprivileged_userns_clone=1 and \
                     user.max_user_namespaces > 0; in a container, CAP_SYS_ADMIN or a seccomp \
                     profile that permits unshare and mount)";
const NAME: &str = "names::a_name_that_changes_its_address_is_followed";

#[test]
fn a_name_that_changes_its_address_is_followed() {
    if let Ok(hosts) = std::env::var(HOSTS) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(async {
            single(&hosts).await;
            sentinel(&hosts).await;
            cluster(&hosts).await;
        });
    }
    let folder = tempfile::TempDir::new().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let unshare = |command: &str| {
        let mut run = Command::new("unshare");
        run.args(["-rm", "sh", "-c"])
            .arg(format!("mount --bind \"${HOSTS}\" /etc/hosts && {command}"));
        run.env(HOSTS, &hosts);
        run
    };
    // Else a failure below could be either.
    let permitted = unshare("true").output().expect("`unshare` of util-linux is installed");
    let said = String::from_utf8_lossy(&permitted.stderr);
    assert!(permitted.status.success(), "{NEEDS}: {}: {said}", permitted.status);
    let own = std::env::current_exe().unwrap();
    let mut run = unshare("exec \"$0\" \"$@\"");
    let status = run.arg(own).args(["--exact", NAME, "--nocapture"]).status().unwrap();
    assert!(status.success());
}

/// From now on the names are at this address.
fn at(hosts: &str, addr: &str) {
    std::fs::write(hosts, format!("127.0.0.1 localhost\n{addr} redis.test sentinel.test\n"))
        .unwrap();
}

/// At the second address with the same port.
fn elsewhere(port: u16, args: &[&str]) -> RedisServer {
    let args: Vec<_> = args.iter().chain(&["--bind", "127.0.0.2"]).copied().collect();
    // Its start looks at 127.0.0.1 and finds the server that is there.
    let server = RedisServer::prepare(&args).with_port(port).started();
    let begun = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.2", port)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    server
}

async fn set(pool: &RedisPool) -> bool {
    pool.run(Repeat::Safe, |_| redis::Cmd::set("k", 1)).await.is_ok()
}

fn is_there(port: u16) -> bool {
    let client = redis::Client::open(format!("redis://127.0.0.2:{port}")).unwrap();
    let mut connection = client.get_connection().unwrap();
    redis::cmd("EXISTS").arg("k").query(&mut connection).unwrap()
}

async fn single(hosts: &str) {
    let before = RedisServer::start::<&str>(&[]);
    let port = before.port();
    let after = elsewhere(port, &[]);
    at(hosts, "127.0.0.1");
    let pool = RedisPool::new(settings(Topology::Single(format!("redis.test:{port}")), 0)).unwrap();
    assert!(set(&pool).await && !is_there(port));
    // The old one becomes a replica, as in the planned failover of a managed service.
    at(hosts, "127.0.0.2");
    before.cli(&["REPLICAOF", "127.0.0.2", &port.to_string()]);
    let follows = || async { set(&pool).await && is_there(port) };
    assert!(eventually(PATIENCE, follows).await, "{}", after.log());
    // The other way round the old one just goes.
    at(hosts, "127.0.0.1");
    before.cli(&["REPLICAOF", "NO", "ONE"]);
    before.cli(&["DEL", "k"]);
    drop(after);
    let follows = || async { set(&pool).await && before.cli(&["EXISTS", "k"]) == "1" };
    assert!(eventually(PATIENCE, follows).await);
}

async fn sentinel(hosts: &str) {
    let (before, sentinels) = (RedisServer::start::<&str>(&[]), free_port());
    let port = before.port();
    let first = tokio::spawn(says_on_with(format!("127.0.0.1:{sentinels}"), port));
    at(hosts, "127.0.0.1");
    let addrs = vec![format!("sentinel.test:{sentinels}")];
    let topology = Topology::Sentinel { master: "mymaster".into(), addrs };
    let addr = first.await.unwrap();
    assert_eq!(addr, format!("127.0.0.1:{sentinels}"));
    let pool = RedisPool::new(settings(topology, 0)).unwrap();
    assert!(set(&pool).await);
    // The Sentinel gives a name, which leads elsewhere now.
    let after = elsewhere(port, &[]);
    says_on_with(format!("127.0.0.2:{sentinels}"), port).await;
    at(hosts, "127.0.0.2");
    drop(before);
    let follows = || async { set(&pool).await && is_there(port) };
    assert!(eventually(PATIENCE, follows).await, "{}", after.log());
}

async fn says_on_with(addr: String, port: u16) -> String {
    says_on(&addr, ("redis.test", port), 1).await
}

async fn cluster(hosts: &str) {
    let all = |host: &str, port: u16| {
        let client = redis::Client::open(format!("redis://{host}:{port}")).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut add = redis::cmd("CLUSTER");
        // Redis 6.2 does not know ADDSLOTSRANGE.
        add.arg("ADDSLOTS").arg((0..16_384).collect::<Vec<u16>>());
        add.query::<()>(&mut connection).unwrap();
    };
    let args = ["--cluster-enabled", "yes"];
    let before = RedisServer::start(&args);
    let port = before.port();
    all("127.0.0.1", port);
    at(hosts, "127.0.0.1");
    let topology = Topology::Cluster(vec![format!("redis.test:{port}")]);
    let pool = RedisPool::new(settings(topology, 0)).unwrap();
    let works = || async { set(&pool).await };
    assert!(eventually(PATIENCE, works).await, "{}", before.log());
    let after = elsewhere(port, &args);
    all("127.0.0.2", port);
    at(hosts, "127.0.0.2");
    drop(before);
    let follows = || async { set(&pool).await && is_there(port) };
    assert!(eventually(PATIENCE, follows).await, "{}", after.log());
}
