//! A TCP proxy between a peer and Redis, or between two Redis servers, whose mode
//! can be changed at any time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Replies come this much later.
    Delay(Duration),
    /// Connections stay open, new ones are accepted, nothing goes through.
    BlackHole,
    /// Connections are reset, new ones too.
    Reset,
}

struct Shared {
    target: SocketAddr,
    mode: watch::Sender<Mode>,
    /// For connections of replicas and Sentinels, beside the mode of all.
    servers: watch::Sender<Mode>,
    /// How many replies are still to be swallowed, each with its connection.
    drops: AtomicUsize,
    dropped: AtomicUsize,
}

/// A listening proxy; dropped, it and its connections are gone.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// To a port of this machine.
    pub async fn to(target: u16) -> Self {
        Self::on(crate::support::free_port(), target).await
    }

    /// Listens on this port.
    pub async fn on(port: u16, target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let target = SocketAddr::from(([127, 0, 0, 1], target));
        let shared = Arc::new(Shared {
            target,
            mode: watch::Sender::new(Mode::Pass),
            servers: watch::Sender::new(Mode::Pass),
            drops: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Changes the mode of all connections.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Changes the mode of connections of replicas and Sentinels alone.
    pub fn set_for_servers(&self, mode: Mode) {
        self.shared.servers.send_replace(mode);
    }

    /// The next replies are lost: the request reaches Redis, and the connection is
    /// closed before its reply.
    pub fn drop_replies(&self, count: usize) {
        self.shared.drops.store(count, Ordering::SeqCst);
    }

    /// How many replies were lost so far.
    pub fn dropped(&self) -> usize {
        self.shared.dropped.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.mode.send_replace(Mode::Reset);
    }
}

impl Shared {
    /// Whether this reply is one of those to be lost.
    fn is_to_be_dropped(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        let taken = self.drops.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        if taken {
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(serve(client, Arc::clone(&shared)));
    }
}

/// What rules a connection: the mode of all, and for a server's also the mode of servers.
#[derive(Clone)]
struct Modes {
    all: watch::Receiver<Mode>,
    servers: watch::Receiver<Mode>,
    is_server: Arc<AtomicBool>,
}

impl Modes {
    fn now(&self) -> Mode {
        let (all, servers) = (*self.all.borrow(), *self.servers.borrow());
        if all == Mode::Pass && self.is_server.load(Ordering::Relaxed) { servers } else { all }
    }

    /// Servers say what they are in their first words.
    fn look_at(&self, request: &[u8]) {
        let says = |word: &[u8]| request.windows(word.len()).any(|part| part == word);
        if says(b"REPLCONF") || says(b"PSYNC") || says(b"sentinel-") {
            self.is_server.store(true, Ordering::Relaxed);
        }
    }

    async fn changed(&mut self) {
        tokio::select! {
            _ = self.all.changed() => {}
            _ = self.servers.changed() => {}
        }
    }

    /// Returns once bytes may go through; false: the connection is reset.
    async fn pass(&mut self) -> bool {
        loop {
            match self.now() {
                Mode::Pass | Mode::Delay(_) => return true,
                Mode::Reset => return false,
                Mode::BlackHole => self.changed().await,
            }
        }
    }

    async fn reset(&mut self) {
        while self.now() != Mode::Reset {
            self.changed().await;
        }
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut modes = Modes {
        all: shared.mode.subscribe(),
        servers: shared.servers.subscribe(),
        is_server: Arc::default(),
    };
    let _ = client.set_nodelay(true);
    // A reset, not an orderly end.
    if !modes.pass().await {
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    let _ = server.set_nodelay(true);
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let (asks, answers) = (modes.clone(), modes.clone());
    let keep = Arc::clone(&shared);
    tokio::select! {
        () = requests(from_client, to_server, asks) => {}
        () = replies(from_server, to_client, answers, keep) => {}
        () = modes.reset() => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: Modes) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let Ok(read) = from.read(&mut bytes).await else { return };
        modes.look_at(&bytes[..read]);
        if read == 0 || !modes.pass().await || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: Modes,
    shared: Arc<Shared>,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let Ok(read) = from.read(&mut bytes).await else { return };
        if read == 0 || shared.is_to_be_dropped() || !modes.pass().await {
            return;
        }
        if let Mode::Delay(pause) = modes.now() {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
