//! Opens one connection to one server: TCP options, TLS, credentials, database, a sign of life.
//!
//! The Redis library could do most of this itself. It is done here because its greeting turns every
//! refusal into a wrong password, its TLS does not explain a failed handshake, and its timeouts are
//! the same for every call. So a stream is opened and wrapped here, and the library gets it ready
//! to use, without timeouts: the pool bounds each call with a deadline of its own.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, Value,
};
use tokio::net::TcpStream;

use super::address::HostPort;
use super::dial::Dialer;
use super::role::alive;
use super::spare;

impl Dialer {
    /// A connection to this server that only listens.
    pub(super) async fn listen_to(&self, addr: &HostPort) -> RedisResult<PubSub> {
        let info = self.info(addr, true)?;
        let Some(tls) = &self.tls else {
            let client = Client::open(info)?;
            return spare::connect(|| client.get_async_pubsub()).await;
        };
        let stream = spare::connect(|| self.tcp_stream(addr)).await?;
        PubSub::new(info.redis_settings(), tls.wrap(stream, &addr.0).await?).await
    }

    /// Dials one server and greets it: credentials, database, a sign of life.
    pub(super) async fn server(&self, addr: &HostPort) -> RedisResult<MultiplexedConnection> {
        self.greet(self.open(addr).await?).await
    }

    /// Authenticates, selects the database and waits for the answer to a PING.
    pub(super) async fn greet(
        &self,
        mut connection: MultiplexedConnection,
    ) -> RedisResult<MultiplexedConnection> {
        // Not left to the library: its RESP2 greeting turns every refusal, such
        // as "max number of clients reached", into a wrong password.
        if self.username.is_some() || self.password.is_some() {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &self.username {
                auth.arg(username);
            }
            auth.arg(self.password.as_deref().unwrap_or_default());
            auth.query_async::<()>(&mut connection).await?;
        }
        if self.db != 0 {
            redis::cmd("SELECT").arg(self.db).query_async::<()>(&mut connection).await?;
        }
        alive(redis::cmd("PING").query_async::<Value>(&mut connection).await)?;
        Ok(connection)
    }

    /// Opens a connection without greeting or timeouts. With TLS the stream is wrapped by `tls`
    /// rather than by the library: it knows `tls_server_name` and explains a failed handshake.
    async fn open(&self, addr: &HostPort) -> RedisResult<MultiplexedConnection> {
        let info = self.info(addr, false)?;
        let Some(tls) = &self.tls else { return open(info).await };
        let stream = spare::connect(|| self.tcp_stream(addr)).await?;
        let stream = tls.wrap(stream, &addr.0).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(info.redis_settings(), stream, without_limits())
                .await?;
        // Ends with the last clone of the connection.
        tokio::spawn(driver);
        Ok(connection)
    }

    /// A TCP connection with the options that the Redis library gives its own; see
    /// [`tcp`](Self::tcp).
    async fn tcp_stream(&self, (host, port): &HostPort) -> RedisResult<TcpStream> {
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive())?;
        #[cfg(target_os = "linux")]
        if !self.write_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.write_timeout))?;
        }
        Ok(stream)
    }

    /// The library's description of a server. Without credentials if [`greet`](Self::greet) sends
    /// them.
    pub(super) fn info(
        &self,
        (host, port): &HostPort,
        with_credentials: bool,
    ) -> RedisResult<ConnectionInfo> {
        let addr = if self.tls.is_some() {
            let host = host.clone();
            ConnectionAddr::TcpTls { host, port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        };
        self.with_greeting(addr, with_credentials)
    }

    /// The library's description of an address, with or without our credentials.
    pub(super) fn with_greeting(
        &self,
        addr: ConnectionAddr,
        with_credentials: bool,
    ) -> RedisResult<ConnectionInfo> {
        let mut greeting = RedisConnectionInfo::default().set_skip_set_lib_name();
        if with_credentials {
            if let Some(username) = &self.username {
                greeting = greeting.set_username(username);
            }
            if let Some(password) = &self.password {
                greeting = greeting.set_password(password);
            }
        }
        let info = addr.into_connection_info()?;
        Ok(info.set_redis_settings(greeting).set_tcp_settings(self.tcp()))
    }

    /// The options of a TCP connection: no delay, keepalive, and `write_timeout`.
    ///
    /// They find a peer that vanished without closing (a machine that lost power, a firewall
    /// that drops packets). Keepalive covers a connection that only waits, the user timeout one
    /// with data under way. Without them Linux goes on sending for about 15 minutes.
    pub(super) fn tcp(&self) -> TcpSettings {
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive());
        // Sent and not even acknowledged by the peer's kernel: the link is cut.
        #[cfg(target_os = "linux")]
        let tcp = if self.write_timeout.is_zero() {
            tcp
        } else {
            tcp.set_user_timeout(self.write_timeout)
        };
        tcp
    }

    /// rustls wants one provider for the process; an application's own stays.
    pub(super) fn provide_tls(&self) {
        if self.tls.is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another installer is as good as winning it.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
    }
}

/// The library's connection without timeouts of its own: the pool bounds every call, with a
/// deadline that differs from call to call.
fn without_limits() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

/// Opens a connection, if necessary with a reserved descriptor.
pub(super) async fn open(info: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let (client, config) = (Client::open(info)?, without_limits());
    spare::connect(|| client.get_multiplexed_async_connection_with_config(&config)).await
}

/// A dead peer is noticed after 5 s without traffic and unanswered probes every 2 s.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2))
}
