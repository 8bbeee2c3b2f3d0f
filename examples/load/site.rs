//! The Redis under load: a given one, or one that the driver starts and stops.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::Outcome;
use crate::proxy::Proxy;

pub struct Site {
    /// Where producers and workers connect: the proxy, if there is one.
    pub url: String,
    /// A direct connection to Redis, for reading.
    pub connection: MultiplexedConnection,
    own: Option<Own>,
    _proxy: Option<Proxy>,
}

struct Own {
    child: Child,
    _dir: TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    pub async fn open(given: Option<&str>, aof: bool, rtt_ms: f64) -> Outcome<Self> {
        let (mut url, own) = match given {
            Some(given) if given.contains("://") => (given.to_owned(), None),
            Some(given) => (format!("redis://{given}"), None),
            None => {
                let (url, own) = start(aof)?;
                (url, Some(own))
            }
        };
        let client = redis::Client::open(url.as_str()).map_err(|error| {
            format!("--redis: expected redis://host:port[/db], found {url:?}: {error}")
        })?;
        // Deleting a million jobs takes long.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .map_err(|error| format!("Redis at {url} does not answer: {error}"))?;
        let mut proxy = None;
        if !(0.0..=10_000.0).contains(&rtt_ms) {
            return Err(format!("--rtt-ms: expected 0 to 10000, found {rtt_ms}").into());
        }
        if rtt_ms > 0.0 {
            let info = client.get_connection_info();
            let started =
                Proxy::start(&info.addr().to_string(), Duration::from_secs_f64(rtt_ms / 1e3))?;
            let db = info.redis_settings().db();
            url = format!("redis://127.0.0.1:{}/{db}", started.port);
            proxy = Some(started);
        }
        Ok(Self { url, connection, own, _proxy: proxy })
    }

    /// Checks that the queue is empty: other jobs would be run, and deleted at the end.
    pub async fn expect_empty(&mut self) -> Outcome<()> {
        let kinds = ["pending", "active", "scheduled", "retry", "archived", "completed"];
        for kind in kinds {
            let count = self.count(kind).await?;
            if count > 0 {
                let found = format!("found {count} jobs in {kind}");
                return Err(format!("queue \"default\": expected it to be empty, {found}").into());
            }
        }
        Ok(())
    }

    /// The number of jobs in this state.
    pub async fn count(&mut self, state: &str) -> Outcome<u64> {
        let key = format!("asynq:{{default}}:{state}");
        let command = if matches!(state, "pending" | "active") { "LLEN" } else { "ZCARD" };
        Ok(redis::cmd(command).arg(key).query_async(&mut self.connection).await?)
    }

    /// Whether the driver has started this Redis.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Deletes the jobs that the driver has left: all in the queue, which was empty before.
    pub async fn clean(&mut self) -> Outcome<()> {
        if self.is_own() {
            return Ok(redis::cmd("FLUSHALL").query_async(&mut self.connection).await?);
        }
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("asynq:{default}:*").arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut self.connection).await?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).query_async::<()>(&mut self.connection).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// A number from `INFO`.
    pub async fn info(&mut self, section: &str, name: &str) -> Outcome<f64> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg(section).query_async(&mut self.connection).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.ok_or_else(|| format!("INFO {section}: {name} is missing"))?.trim().parse()?)
    }
}

fn start(aof: bool) -> Outcome<(String, Own)> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let dir = TempDir::new()?;
    let append = if aof { "yes" } else { "no" };
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(dir.path())
        .args(["--appendonly", append, "--appendfsync", "everysec"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("redis-server: expected it to be installed, found: {error}"))?;
    let own = Own { child, _dir: dir };
    let patience = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > patience {
            return Err("redis-server: expected it to listen within 10 s".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("Redis of the driver's own on port {port}{}", if aof { ", with AOF" } else { "" });
    Ok((format!("redis://127.0.0.1:{port}"), own))
}
