//! Redis servers that belong together: a pair under Sentinel, and a cluster.

use std::process::{ChildStdin, Command, Stdio};

use rocket_jobqueue::internals::Topology;

use super::border::Border;
use super::{PATIENCE, RedisServer, closed_port, eventually, free_port};

/// A master, its replica and the Sentinel that watches both.
pub struct WatchedPair {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub sentinel: RedisServer,
}

impl WatchedPair {
    /// Starts the three; the replica is in sync.
    pub async fn start() -> Self {
        let master = RedisServer::start::<&str>(&[]);
        let port = master.port().to_string();
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
        // A Sentinel looks again only after ten seconds: it shall find them in sync.
        let synced = || async { replica.cli(&["INFO", "replication"]).contains("link_status:up") };
        assert!(eventually(PATIENCE, synced).await, "{}", replica.log());
        let sentinel = RedisServer::prepare::<&str>(&[]);
        let file = sentinel.dir().join("sentinel.conf");
        let monitor = format!("sentinel monitor mymaster 127.0.0.1 {port} 1\n");
        let rest = "sentinel down-after-milliseconds mymaster 1000\n\
                    sentinel failover-timeout mymaster 3000\n";
        std::fs::write(&file, monitor + rest).expect("Sentinel's folder is writable");
        let file = file.display().to_string();
        let sentinel = sentinel.with_args(&[file.as_str(), "--sentinel"]).started();
        Self { master, replica, sentinel }
    }

    /// The pair as a pool finds it: one of the two Sentinels named is not there.
    pub fn topology(&self) -> Topology {
        Topology::Sentinel {
            master: "mymaster".into(),
            addrs: vec![format!("127.0.0.1:{}", closed_port()), self.sentinel.addr()],
        }
    }

    /// The server that is master now, and the other one.
    pub fn roles(&self) -> (&RedisServer, &RedisServer) {
        let serves = self.sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
        if serves.ends_with(&self.master.port().to_string()) {
            (&self.master, &self.replica)
        } else {
            (&self.replica, &self.master)
        }
    }

    /// Waits until Sentinel would promote the replica.
    pub async fn is_in_sync(&self) -> bool {
        let (_, replica) = self.roles();
        let port = replica.port().to_string();
        let synced = || async {
            let text = self.sentinel.cli(&["SENTINEL", "REPLICAS", "mymaster"]);
            text.contains(&port)
                && text.contains("master-link-status\nok")
                && replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
        };
        eventually(PATIENCE, synced).await
    }

    /// Makes the replica the master and the master its replica.
    pub async fn fail_over(&self) {
        assert!(self.is_in_sync().await, "{}", self.sentinel.log());
        let (old, new) = self.roles();
        let asked = || async { self.sentinel.cli(&["SENTINEL", "FAILOVER", "mymaster"]) == "OK" };
        assert!(eventually(PATIENCE, asked).await, "{}", self.sentinel.log());
        let promoted = || async { new.cli(&["INFO", "replication"]).contains("role:master") };
        assert!(eventually(PATIENCE, promoted).await, "{}", self.sentinel.log());
        // As the Sentinel would, eight seconds later.
        old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
        let named = || async { self.roles().0.port() == new.port() };
        assert!(eventually(PATIENCE, named).await, "{}", self.sentinel.log());
    }

    /// All three.
    pub fn servers(&self) -> [&RedisServer; 3] {
        [&self.master, &self.replica, &self.sentinel]
    }
}

/// A Redis Cluster.
pub struct Cluster {
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts `masters` nodes with all slots between them, and `replicas` more
    /// for each of them; all serve.
    pub async fn start(masters: usize, replicas: usize, node_timeout: &str) -> Self {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", node_timeout];
        let count = masters * (1 + replicas);
        let nodes: Vec<_> = (0..count).map(|_| RedisServer::start(&args)).collect();
        let addrs: Vec<_> = nodes.iter().map(RedisServer::addr).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addrs.iter().map(String::as_str));
        let replicas = replicas.to_string();
        create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        // On a busy machine it looks for all slots before the nodes have told each other.
        let created = nodes[0].cli(&create);
        let known = format!("cluster_known_nodes:{count}\r");
        let all = ["cluster_state:ok", "cluster_slots_ok:16384", &known];
        let serves = |node: &RedisServer| {
            let role = node.cli(&["INFO", "replication"]);
            let state = node.cli(&["CLUSTER", "INFO"]);
            all.iter().all(|part| state.contains(part))
                && (role.contains("role:master") || role.contains("master_link_status:up"))
        };
        let all_serve = || async { nodes.iter().all(serves) };
        assert!(eventually(PATIENCE, all_serve).await, "{created}: {}", nodes[0].log());
        Self { nodes }
    }

    /// The cluster as a pool finds it: by two of its nodes.
    pub fn topology(&self) -> Topology {
        Topology::Cluster(self.nodes[..2].iter().map(RedisServer::addr).collect())
    }
}

/// Kills these servers and removes their folders when this process ends, in
/// whichever way: what a static holds is never dropped. Keep what it returns.
#[must_use]
// It outlives this process on purpose.
#[allow(clippy::zombie_processes)]
pub fn end_with_this_process(servers: &[&RedisServer]) -> ChildStdin {
    const WATCH: &str =
        "cat >/dev/null; while [ $# -gt 0 ]; do kill -9 \"$1\"; rm -rf \"$2\"; shift 2; done";
    let mut watch = Command::new("sh");
    watch.args(["-c", WATCH, "sh"]);
    for server in servers {
        watch.arg(server.pid().to_string()).arg(server.dir());
    }
    watch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watch = watch.spawn().expect("a shell");
    watch.stdin.take().expect("its standard input is a pipe")
}

/// A master, two replicas and three Sentinels that see a dead master after 2 s.
pub struct SentinelFleet {
    /// The first one was started as the master.
    pub nodes: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
    /// The ports that the nodes are known under.
    announced: Vec<u16>,
}

impl SentinelFleet {
    /// Starts all six, known by their own ports.
    pub async fn start() -> Self {
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        Self::start_known_as(&ports, &ports).await
    }

    /// Nodes that listen on `ports` and are known to each other, to the Sentinels
    /// and to clients as `announced`, where somebody forwards to `ports`.
    pub async fn start_known_as(ports: &[u16], announced: &[u16]) -> Self {
        let master = announced[0].to_string();
        let nodes: Vec<_> = ports
            .iter()
            .zip(announced)
            .enumerate()
            .map(|(at, (port, known))| {
                let known = known.to_string();
                let mut args = vec!["--replica-announce-ip", "127.0.0.1"];
                args.extend(["--replica-announce-port", &known, "--repl-diskless-sync-delay", "0"]);
                if at > 0 {
                    args.extend(["--replicaof", "127.0.0.1", &master]);
                }
                RedisServer::prepare(&args).with_port(*port).started()
            })
            .collect();
        let synced = || async {
            let up = |node: &RedisServer| {
                node.cli(&["INFO", "replication"]).contains("master_link_status:up")
            };
            nodes[1..].iter().all(up)
        };
        assert!(eventually(PATIENCE, synced).await, "{}", nodes[1].log());
        let sentinels = (0..3).map(|_| start_sentinel(&master)).collect();
        let fleet = Self { nodes, sentinels, announced: announced.to_vec() };
        let whole = || async { fleet.is_whole() };
        assert!(eventually(PATIENCE, whole).await, "{}", fleet.sentinels[0].log());
        fleet
    }

    /// Whether every Sentinel that runs knows the others and two replicas in sync.
    pub fn is_whole(&self) -> bool {
        self.sentinels.iter().all(|sentinel| {
            let text = sentinel.cli(&["SENTINEL", "REPLICAS", "mymaster"]);
            let others = sentinel.cli(&["SENTINEL", "SENTINELS", "mymaster"]);
            text.matches("master-link-status\nok").count() == 2
                && others.matches("\nrunid\n").count() == 2
        })
    }

    /// The node that this fleet's Sentinels name as master, by its place.
    pub fn master(&self) -> usize {
        let asked = self.sentinels.iter().find_map(|sentinel| {
            let text = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
            let port: u16 = text.lines().last()?.parse().ok()?;
            self.announced.iter().position(|known| *known == port)
        });
        asked.expect("a Sentinel answers")
    }

    /// The master's own address, past the forwarder.
    pub fn master_addr(&self) -> String {
        self.nodes[self.master()].addr()
    }

    /// The Sentinels' addresses.
    pub fn sentinel_addrs(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::addr).collect()
    }
}

fn start_sentinel(master: &str) -> RedisServer {
    let sentinel = RedisServer::prepare::<&str>(&[]);
    let file = sentinel.dir().join("sentinel.conf");
    let text = format!(
        "sentinel monitor mymaster 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds mymaster 2000\n\
         sentinel failover-timeout mymaster 10000\n"
    );
    std::fs::write(&file, text).expect("Sentinel's folder is writable");
    let file = file.display().to_string();
    sentinel.with_args(&[file.as_str(), "--sentinel"]).started()
}

impl Cluster {
    /// The nodes that are masters and answer, by their place.
    pub fn masters(&self) -> Vec<usize> {
        let is_master = |node: &RedisServer| {
            let line = "myself,master";
            node.cli(&["CLUSTER", "NODES"]).lines().any(|text| text.contains(line))
        };
        (0..self.nodes.len()).filter(|&at| is_master(&self.nodes[at])).collect()
    }

    /// Their addresses.
    pub fn master_addrs(&self) -> Vec<String> {
        self.masters().into_iter().map(|at| self.nodes[at].addr()).collect()
    }

    /// The id of a node.
    pub fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["CLUSTER", "MYID"])
    }

    /// The node that has this queue's slot, asked of the node at `asked`.
    pub fn owner(&self, queue: &str, asked: usize) -> usize {
        let key = format!("asynq:{{{queue}}}:pending");
        let slot: u16 =
            self.nodes[asked].cli(&["CLUSTER", "KEYSLOT", &key]).parse().expect("a slot");
        let nodes = self.nodes[asked].cli(&["CLUSTER", "NODES"]);
        let line = nodes.lines().find(|line| {
            let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
            ranges.into_iter().any(|range| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                let bound = |text: &str| text.parse::<u16>().ok();
                bound(from).is_some_and(|from| from <= slot)
                    && bound(to).is_some_and(|to| slot <= to)
            })
        });
        let addr = line.and_then(|line| line.split(' ').nth(1)).expect("an owner");
        let port = |addr: &str| addr.split('@').next().map(str::to_owned);
        let owner = self.nodes.iter().position(|node| port(addr) == Some(node.addr()));
        owner.expect("a node of this cluster")
    }

    /// The slot of a queue.
    pub fn slot(&self, queue: &str) -> String {
        let key = format!("asynq:{{{queue}}}:pending");
        self.nodes[0].cli(&["CLUSTER", "KEYSLOT", &key])
    }
}

/// A master behind a border, two replicas and the three Sentinels that watch them.
pub struct WatchedTrio {
    /// The first master; reached through the border.
    pub master: RedisServer,
    pub replicas: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
    pub border: Border,
    /// The Sentinels' password.
    password: Option<String>,
}

impl WatchedTrio {
    /// Starts all of them; the replicas are in sync and the Sentinels know of each other.
    /// `sentinel` are more lines of the Sentinels' configuration.
    pub async fn start(sentinel: &str) -> Self {
        let master = RedisServer::prepare(&["--repl-diskless-sync-delay", "0"]);
        let border = Border::around(master.addr()).await;
        let port = border.port().to_string();
        // As a replica, later, it shall have the same address.
        let master = master.with_args(&["--replica-announce-port", &port]).started();
        let args = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let replicas: Vec<_> = (0..2).map(|_| RedisServer::start(&args)).collect();
        let synced = |replica: &RedisServer| {
            replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
        };
        let all = || async { replicas.iter().all(synced) };
        assert!(eventually(PATIENCE, all).await, "{}", replicas[0].log());
        let sentinels = (0..3).map(|_| {
            let server = RedisServer::prepare::<&str>(&[]);
            let file = server.dir().join("sentinel.conf");
            let text = format!(
                "sentinel monitor mymaster 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds mymaster 2000\n\
                 sentinel failover-timeout mymaster 6000\n{sentinel}"
            );
            std::fs::write(&file, text).expect("Sentinel's folder is writable");
            let file = file.display().to_string();
            server.with_args(&[file.as_str(), "--sentinel"]).started()
        });
        let sentinels = sentinels.collect();
        let password = sentinel.strip_prefix("requirepass ").map(|rest| rest.trim().to_owned());
        let trio = Self { master, replicas, sentinels, border, password };
        assert!(trio.is_ready().await, "{}", trio.sentinels[0].log());
        trio
    }

    fn ask(&self, sentinel: &RedisServer, command: &[&str]) -> String {
        let password = self.password.iter().flat_map(|password| ["-a", password]);
        let args: Vec<&str> = password.chain(command.iter().copied()).collect();
        sentinel.cli(&args)
    }

    /// Every Sentinel knows the two others and two replicas in sync.
    pub async fn is_ready(&self) -> bool {
        let knows = |sentinel: &RedisServer| {
            let text = self.ask(sentinel, &["SENTINEL", "REPLICAS", "mymaster"]);
            let master = self.ask(sentinel, &["SENTINEL", "MASTER", "mymaster"]);
            text.matches("master-link-status\nok").count() == 2
                && text.matches("flags\nslave\n").count() == 2
                && master.contains("num-other-sentinels\n2")
                && !master.contains("failover_in_progress")
        };
        eventually(PATIENCE, || async { self.sentinels.iter().all(knows) }).await
    }

    pub fn topology(&self) -> Topology {
        let addrs = self.sentinels.iter().map(RedisServer::addr).collect();
        Topology::Sentinel { master: "mymaster".into(), addrs }
    }

    /// The server whom all Sentinels call the master.
    pub async fn serving(&self) -> &RedisServer {
        let named = || {
            let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"];
            let ports = self.sentinels.iter().map(|sentinel| {
                let answer = self.ask(sentinel, &command);
                answer.lines().nth(1).unwrap_or_default().to_owned()
            });
            let mut ports: Vec<_> = ports.collect();
            ports.dedup();
            ports
        };
        assert!(eventually(PATIENCE, || async { named().len() == 1 }).await);
        let port = named()[0].parse::<u16>().expect("a port");
        if port == self.border.port() {
            return &self.master;
        }
        let all = std::iter::once(&self.master).chain(&self.replicas);
        all.into_iter().find(|server| server.port() == port).expect("one of ours")
    }

    /// Asks for a planned failover; returns once one of the replicas was told.
    pub async fn fail_over(&self) {
        let asked = || async {
            self.ask(&self.sentinels[0], &["SENTINEL", "FAILOVER", "mymaster"]) == "OK"
        };
        assert!(eventually(PATIENCE, asked).await, "{}", self.sentinels[0].log());
    }
}
