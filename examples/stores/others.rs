//! Stores of others that sync before they answer, measured in the same run on the same disk.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rocket::tokio;
use rocket_jobqueue::JobQueue;

use crate::{Outcome, enqueue, say, start};

/// SQLite through Python's module, as an embedded queue would use it: a write-ahead log, synced by
/// each commit, and a commit for each job. Callers are threads with a connection each.
const SQLITE: &str = r#"
import sqlite3, sys, threading, time
path, callers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def connect():
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db
connect().execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, type TEXT, payload BLOB)")
counts, began = [0] * callers, time.monotonic()
def call(nth):
    db = connect()
    while time.monotonic() - began < seconds:
        db.execute("INSERT INTO jobs (type, payload) VALUES ('noop', '{\"n\":1}')")
        counts[nth] += 1
threads = [threading.Thread(target=call, args=(nth,)) for nth in range(callers)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(counts) / (time.monotonic() - began))
"#;

const SECONDS: &str = "3";

pub fn sqlite(folder: &Path) -> Outcome<()> {
    for (what, callers) in [("one caller", "1"), ("64 callers", "64")] {
        let mut command = Command::new("python3");
        command.args(["-c", SQLITE]).arg(folder.join(format!("sqlite-{callers}")));
        let Ok(done) = command.args([callers, SECONDS]).output() else {
            println!("python3 is not installed: no lines of SQLite");
            return Ok(());
        };
        let per_second = String::from_utf8_lossy(&done.stdout).trim().parse();
        let told = || String::from_utf8_lossy(&done.stderr).into_owned();
        say("SQLite, FULL", what, per_second.map_err(|_| told())?);
    }
    Ok(())
}

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our own store in a Redis that syncs its log before it answers.
pub async fn redis(folder: &Path) -> Outcome<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
    let Ok(child) = command.stdout(Stdio::null()).spawn() else {
        println!("redis-server is not installed: no lines of Redis");
        return Ok(());
    };
    let _server = Server(child);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let store = || {
        let url = format!("redis://127.0.0.1:{port}");
        JobQueue::fairing().environment("staging").set("databases.jobqueue.url", url)
    };
    for (what, callers) in [("one caller", 1), ("64 callers", 64)] {
        let (client, queue) = start(store(), None).await?;
        say("Redis, always", what, enqueue(&queue, callers, 1).await?);
        client.terminate().await;
    }
    Ok(())
}
