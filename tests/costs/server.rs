//! A `redis-server` of this program's own, plain or under callgrind.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, valgrind};

/// More than a busy machine needs to start it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What connections and this program send, and not the calls: not counted.
const ASIDE: [&str; 12] = [
    "auth",
    "client",
    "command",
    "config",
    "echo",
    "hello",
    "info",
    "ping",
    "script",
    "select",
    "shutdown",
    "subscribe",
];

/// Keys that nobody uses. With them the tables of keys and of their ends have the same size during
/// all steps; else they grow and shrink, when a timer says so.
const BALLAST: &str = "for n = 1, 2500 do
    redis.call('SET', 'ballast:' .. n, n)
    if n <= 300 then redis.call('EXPIRE', 'ballast:' .. n, 1000000) end
end";

/// The server that tests start, as `scripts/servers.sh` says it.
fn program() -> String {
    std::env::var("JOBQUEUE_TEST_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// What the server says of its version and build.
pub fn version() -> Outcome<String> {
    let program = program();
    let output = Command::new(&program).arg("--version").output();
    let output = output.map_err(|error| format!("{program} does not start: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub struct Server {
    port: u16,
    child: Child,
}

impl Server {
    /// A server as it is used.
    pub fn plain() -> Outcome<Self> {
        Self::start(Command::new(program()))
    }

    /// A server whose scripts are counted: [`Server::mark`] writes a dump below this folder.
    pub fn counted(folder: &Path) -> Outcome<Self> {
        // Nobody else sends ECHO. Lua's garbage is collected at each fiftieth call, whichever that is.
        let except = Some("lua_gc");
        let mut command = valgrind::callgrind(folder, "evalShaCommand", except, "echoCommand");
        command.arg(program());
        Self::start(command)
    }

    fn start(mut command: Command) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        // Else a timer moves entries between tables, now and then within a script.
        command.args(["--appendonly", "no", "--activerehashing", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let server = Self { port, child };
        let end = Instant::now() + PATIENCE;
        while server.ask(&["PING"]).is_err() {
            if Instant::now() > end {
                return Err("redis-server did not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        server.ask(&["EVAL", BALLAST, "0"])?;
        Ok(server)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends one command on a connection of its own; the reply as it came.
    fn ask(&self, words: &[&str]) -> Outcome<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "*{}\r\n", words.len())?;
        for word in words {
            write!(stream, "${}\r\n{word}\r\n", word.len())?;
        }
        let (mut reply, mut some) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let read = stream.read(&mut some)?;
            reply.extend_from_slice(&some[..read]);
            let text = String::from_utf8_lossy(&reply);
            // A bulk string says how long it is; other replies are short.
            let length = text.strip_prefix('$').and_then(|rest| {
                let (length, body) = rest.split_once("\r\n")?;
                Some(length.parse::<usize>().ok()?.saturating_add(2) <= body.len())
            });
            if read == 0 || length.unwrap_or(text.ends_with("\r\n")) {
                return Ok(text.into_owned());
            }
        }
    }

    /// The scripts that ran since the last mark are one dump.
    pub fn mark(&self) -> Outcome<()> {
        self.ask(&["ECHO", "mark"]).map(|_| ())
    }

    /// How often each command ran since the last call.
    pub fn commands(&self) -> Outcome<BTreeMap<String, u64>> {
        let text = self.ask(&["INFO", "commandstats"])?;
        self.ask(&["CONFIG", "RESETSTAT"])?;
        let count = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse().ok()?;
            (!ASIDE.contains(&name.split('|').next()?)).then(|| (name.to_owned(), calls))
        };
        Ok(text.lines().filter_map(count).collect())
    }

    /// Ends it, and waits until valgrind has written everything.
    pub fn end(mut self) -> Outcome<()> {
        // The connection closes without a reply.
        let _ = self.ask(&["SHUTDOWN", "NOSAVE"]);
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
