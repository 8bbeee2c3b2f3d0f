//! A reverse proxy as an operator sets one up: it takes a prefix off the path, asks the
//! application under a name of its own, and says so in forwarded headers, if it is told to.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy does with a request.
#[derive(Clone, Copy)]
pub struct Front {
    /// Taken off the path.
    pub prefix: &'static str,
    /// Whether it tells the host and the prefix of a request.
    pub tells: bool,
}

impl Front {
    /// Listens on a free port of 127.0.0.1 before this application.
    pub async fn before(self, application: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(self.serve(client, application));
            }
        });
        address
    }

    /// One request, and the answer to it until its end.
    async fn serve(self, mut client: TcpStream, application: SocketAddr) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match client.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).expect("a browser's headers are text");
        let mut lines = head.trim_end().lines();
        let request = lines.next().expect("a request").replacen(self.prefix, "", 1);
        let mut sent = format!("{request}\r\nHost: app.internal\r\nConnection: close\r\n");
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            match name.to_ascii_lowercase().as_str() {
                "host" if self.tells => sent.push_str(&format!("X-Forwarded-Host: {value}\r\n")),
                // A browser says it on secure pages and on localhost alone; on plain http
                // elsewhere, which this stands for, it says nothing.
                name if name == "host" || name == "connection" || name.starts_with("sec-") => {}
                _ => sent.push_str(&format!("{line}\r\n")),
            }
        }
        if self.tells {
            sent.push_str("X-Forwarded-Proto: http\r\n");
            sent.push_str(&format!("X-Forwarded-Prefix: {}\r\n", self.prefix));
        }
        sent.push_str("\r\n");
        let Ok(mut application) = TcpStream::connect(application).await else { return };
        if application.write_all(sent.as_bytes()).await.is_ok() {
            let _ = copy_bidirectional(&mut client, &mut application).await;
        }
    }
}
