//! A proxy that adds a fixed delay to every reply of Redis, in order and without limiting their
//! number. It uses threads, because a runtime's timer is too coarse.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::Outcome;

/// The proxy alone, so that peers can use it too. It prints its port and ends when its input
/// closes.
#[derive(Args)]
pub struct Alone {
    #[arg(long)]
    redis: String,
    #[arg(long)]
    rtt_ms: f64,
}

/// Runs until its input closes.
pub fn alone(options: &Alone) -> Outcome<()> {
    let target = options.redis.trim_start_matches("redis://");
    let proxy = Proxy::start(target, Duration::from_secs_f64(options.rtt_ms / 1e3))?;
    println!("{}", proxy.port);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

pub struct Proxy {
    pub port: u16,
}

impl Proxy {
    /// Listens on a free port until the process ends.
    pub fn start(target: &str, delay: Duration) -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let target = target.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Redis has gone, so the proxy ends too.
                let Ok(server) = TcpStream::connect(&target) else { continue };
                if let Err(error) = join(client, server, delay) {
                    eprintln!("load: the proxy lost a connection: {error}");
                }
            }
        });
        Ok(Self { port })
    }
}

fn join(client: TcpStream, server: TcpStream, delay: Duration) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        // One of the two ends has disconnected.
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (late, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    let (mut from_server, mut to_client) = (server, client);
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut chunk) {
            if late.send((Instant::now() + delay, chunk[..read].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in due {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if to_client.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}
