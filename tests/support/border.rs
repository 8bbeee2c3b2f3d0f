//! A border around a Redis server: everybody reaches it through this port, and while it is
//! closed its replicas and Sentinels get no byte through, whereas its clients do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards to one server until it is dropped with the runtime.
pub struct Border {
    port: u16,
    peers: Arc<AtomicBool>,
    clients: Arc<AtomicBool>,
}

impl Border {
    /// Around the server at this address.
    pub async fn around(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let border = Self { port, peers: Arc::default(), clients: Arc::default() };
        let (peers, clients) = (Arc::clone(&border.peers), Arc::clone(&border.clients));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target.clone(), peers.clone(), clients.clone()));
            }
        });
        border
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `127.0.0.1:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether replicas and Sentinels are cut off.
    pub fn close_to_peers(&self, closed: bool) {
        self.peers.store(closed, Ordering::SeqCst);
    }

    /// Whether clients are cut off.
    pub fn close_to_clients(&self, closed: bool) {
        self.clients.store(closed, Ordering::SeqCst);
    }
}

/// What replicas and Sentinels say and clients do not.
fn is_a_peers(bytes: &[u8]) -> bool {
    [&b"REPLCONF"[..], b"PSYNC", b"SETNAME\r\n$25\r\nsentinel", b"sentinel-"]
        .iter()
        .any(|word| bytes.windows(word.len()).any(|part| part == *word))
}

async fn forward(
    client: TcpStream,
    target: String,
    peers: Arc<AtomicBool>,
    clients: Arc<AtomicBool>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_peer = Arc::new(AtomicBool::new(false));
    let passes = {
        let is_peer = Arc::clone(&is_peer);
        move || {
            let closed = if is_peer.load(Ordering::SeqCst) { &peers } else { &clients };
            !closed.load(Ordering::SeqCst)
        }
    };
    let there = async {
        let mut bytes = vec![0; 65536];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if is_a_peers(&bytes[..count]) {
                is_peer.store(true, Ordering::SeqCst);
            }
            open(&passes).await;
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut bytes = vec![0; 65536];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            open(&passes).await;
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Bytes are kept, as a network would that is back before the link times out.
async fn open(passes: &impl Fn() -> bool) {
    while !passes() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
