//! The Redis that `Store::Redis` means: one server, a cluster, or a pair under
//! Sentinel, as the test binary's root says in `REDIS`.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OnceCell, OwnedRwLockReadGuard, RwLock};

use crate::support::RedisServer;
use crate::support::fleet::{Cluster, WatchedPair, end_with_this_process};
use crate::support::harness::patient;
use rocket_jobqueue::internals::{PoolSettings, RedisPool, Topology};

/// What `Store::Redis` is in a test binary.
#[allow(dead_code)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Single,
    /// Three masters with a replica each.
    Cluster,
    /// A master and its replica, which change places now and then between cases.
    Sentinel,
}

/// After how many cases master and replica change places.
const FAIL_OVER_AFTER: usize = 15;

/// The servers of the cases that run.
pub enum Site {
    Single(RedisServer),
    Cluster(Cluster),
    Sentinel {
        pair: Box<WatchedPair>,
        turns: Arc<RwLock<()>>,
        opened: AtomicUsize,
        changes: AtomicUsize,
    },
}

/// Keeps master and replica in their places while a case runs.
pub type Turn = Arc<OwnedRwLockReadGuard<()>>;

impl Site {
    pub async fn open() -> Arc<Site> {
        match crate::REDIS {
            Kind::Single => Self::of_cases_that_run(),
            Kind::Cluster | Kind::Sentinel => Self::of_this_process().await,
        }
    }

    /// Ends with the last of the cases that run at a time.
    fn of_cases_that_run() -> Arc<Site> {
        static SITE: Mutex<Weak<Site>> = Mutex::new(Weak::new());
        let mut shared = SITE.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Site::Single(RedisServer::start::<&str>(&[])));
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// Takes seconds to start, and therefore ends with the process only.
    async fn of_this_process() -> Arc<Site> {
        static SITE: OnceCell<Arc<Site>> = OnceCell::const_new();
        let start = async || {
            let (site, servers);
            if crate::REDIS == Kind::Cluster {
                let cluster = Cluster::start(3, 1, "2000").await;
                servers = end_with_this_process(&cluster.nodes.iter().collect::<Vec<_>>());
                site = Site::Cluster(cluster);
            } else {
                let pair = Box::new(WatchedPair::start().await);
                servers = end_with_this_process(&pair.servers());
                let (opened, changes) = (AtomicUsize::new(0), AtomicUsize::new(0));
                site = Site::Sentinel { pair, turns: Arc::default(), opened, changes };
            }
            // Held open until the process ends.
            std::mem::forget(servers);
            Arc::new(site)
        };
        Arc::clone(SITE.get_or_init(start).await)
    }

    pub fn settings(&self) -> PoolSettings {
        let topology = match self {
            Site::Single(server) => return patient(Topology::Single(server.addr())),
            Site::Cluster(cluster) => cluster.topology(),
            Site::Sentinel { pair, .. } => pair.topology(),
        };
        PoolSettings { topology, ..PoolSettings::default() }
    }

    /// What `redis-cli` prints for this command, wherever its key lies.
    pub fn cli<S: AsRef<str>>(&self, args: &[S]) -> String {
        match self {
            Site::Single(server) => server.cli(args),
            Site::Cluster(cluster) => {
                let args = args.iter().map(AsRef::as_ref);
                cluster.nodes[0].cli(&std::iter::once("-c").chain(args).collect::<Vec<_>>())
            }
            Site::Sentinel { pair, .. } => pair.roles().0.cli(args),
        }
    }

    /// How often master and replica have changed places.
    #[allow(dead_code)]
    pub fn changes(&self) -> usize {
        match self {
            Site::Single(_) | Site::Cluster(_) => 0,
            Site::Sentinel { changes, .. } => changes.load(Ordering::SeqCst),
        }
    }

    /// Waits for a failover under way, or begins one that is due: before the
    /// case, and after its pool has connected to what is master until then.
    pub async fn turn(&self, pool: &RedisPool) -> Option<Turn> {
        thread_local! {
            static MINE: RefCell<Weak<OwnedRwLockReadGuard<()>>> = const { RefCell::new(Weak::new()) };
        }
        let Site::Sentinel { pair, turns, opened, changes } = self else { return None };
        // A case that opens two stores has its turn already.
        if let Some(turn) = MINE.with_borrow(Weak::upgrade) {
            return Some(turn);
        }
        let turn = if opened.fetch_add(1, Ordering::SeqCst) % FAIL_OVER_AFTER == FAIL_OVER_AFTER - 1
        {
            let alone = Arc::clone(turns).write_owned().await;
            pool.ping().await.expect("the master serves");
            pair.fail_over().await;
            changes.fetch_add(1, Ordering::SeqCst);
            let serves = || async { pool.ping().await.is_ok() };
            assert!(crate::support::eventually(super::bench::PATIENCE, serves).await);
            alone.downgrade()
        } else {
            Arc::clone(turns).read_owned().await
        };
        let turn = Arc::new(turn);
        MINE.set(Arc::downgrade(&turn));
        Some(turn)
    }
}

/// The slot of a cluster that holds the keys with this tag: CRC16 (XMODEM).
pub fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}
