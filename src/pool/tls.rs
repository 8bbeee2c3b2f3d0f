//! TLS: which certificates are trusted and presented.
//!
//! The configuration checks the options at launch; the dialer uses them. The files are read
//! again whenever their time or size has changed, so certificates can be renewed without a
//! restart: existing connections keep theirs, the next one uses the new files.
//!
//! Certificates are always verified: there is no option that switches it off, because such an
//! option stays on. TLS 1.2 and 1.3 are spoken, with the application's own `rustls` provider if it
//! installed one, otherwise with `ring`.
//!
//! What may surprise. A wrong file stops the launch, but a file that becomes wrong later only logs
//! a warning: the certificates read before stay in use. `SSL_CERT_FILE` and `SSL_CERT_DIR`, if
//! set, replace the system's roots even if nothing is found there. Then no server is trusted.

mod options;
mod pem;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use redis::{RedisError, RedisResult, TlsCertificates, Value};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use options::TlsOptions;
pub(crate) use options::WrongOption;
use options::{EXPECTED_CERT, provider};
use pem::pem_of;

use super::handshake::{failed, reason};
use super::role::alive;
use crate::sync::lock;

/// Everything that a handshake needs. The files are read again when they have changed, so
/// that a renewed certificate is used from the next connection on.
pub(super) struct Tls {
    /// Which files, and which name to expect.
    options: TlsOptions,
    /// The name that certificates must have; `None` means the host that is dialled.
    name: Option<ServerName<'static>>,
    /// Timeout of the handshake: less than the dial's, so that its failure can be reported.
    timeout: Duration,
    files: Mutex<Files>,
}

/// The files as they were read last.
struct Files {
    /// Their stamps before they were read.
    stamps: Vec<Stamp>,
    /// The stamps of the last attempt that failed, so that each failure is logged once.
    refused: Option<Vec<Stamp>>,
    /// The last files that could be used.
    loaded: Loaded,
}

/// When a file was changed and its size; `None` if it cannot be seen.
type Stamp = Option<(SystemTime, u64)>;

/// Files in the form that a handshake needs.
#[derive(Clone)]
struct Loaded {
    /// For the connections that the pool dials itself.
    config: Arc<ClientConfig>,
    /// The same for the Redis library, whose own connection to a Cluster dials its nodes.
    for_cluster: TlsCertificates,
}

impl Loaded {
    /// Reads all files and builds the configuration. Without `ca_file` and system roots, the
    /// built-in ones are used.
    fn read(options: &TlsOptions) -> Result<Self, WrongOption> {
        let (trusted, named) = match options.trusted()? {
            Some(trusted) => (trusted, true),
            None => of_the_system(),
        };
        let mut roots = RootCertStore::empty();
        let mut root_cert = None;
        if trusted.is_empty() && !named {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        } else {
            root_cert = Some(trusted.iter().flat_map(|root| pem_of(root)).collect());
            roots.add_parsable_certificates(trusted);
        }
        let client = options.client()?;
        let client_tls = client.as_ref().map(|client| client.pem.clone());
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots);
        let config = match client {
            Some(client) => {
                builder.with_client_auth_cert(client.chain, client.key).map_err(unusable)?
            }
            None => builder.with_no_client_auth(),
        };
        let for_cluster = TlsCertificates { client_tls, root_cert };
        Ok(Self { config: Arc::new(config), for_cluster })
    }
}

impl Tls {
    /// Reads the files once, so that a wrong one stops the launch.
    pub(super) fn new(options: &TlsOptions, timeout: Duration) -> Result<Self, WrongOption> {
        // Before the files are read, so that a change in between is noticed.
        let stamps = stamps(options);
        let loaded = Loaded::read(options)?;
        let files = Mutex::new(Files { stamps, refused: None, loaded });
        Ok(Self { options: options.clone(), name: options.name()?, timeout, files })
    }

    /// Whether servers are expected to have a certificate for another name than their own.
    pub(super) fn has_name(&self) -> bool {
        self.name.is_some()
    }

    /// The certificates for the Redis library's own connection to a Cluster.
    pub(super) fn for_cluster(&self) -> TlsCertificates {
        self.current().for_cluster
    }

    /// The files as they are now. While they cannot be used, for example between the
    /// renewal of the certificate and of its key, those that were read before are used.
    fn current(&self) -> Loaded {
        let mut files = lock(&self.files);
        let now = stamps(&self.options);
        if now == files.stamps || Some(&now) == files.refused.as_ref() {
            return files.loaded.clone();
        }
        match Loaded::read(&self.options) {
            Ok(loaded) => {
                crate::log::info!("read the changed TLS certificate files");
                *files = Files { stamps: now, refused: None, loaded };
            }
            Err(WrongOption { option, expected, found }) => {
                crate::log::warn!(
                    "tls_{option} has changed and cannot be used: expected {expected}, found \
                     {found}; the certificates read before stay in use"
                );
                files.refused = Some(now);
            }
        }
        files.loaded.clone()
    }

    /// Performs the handshake, and waits until the server has checked our certificate: with
    /// TLS 1.3 it reports the result only after the handshake.
    ///
    /// # Errors
    /// Why the handshake failed, or the error with which the server refused us.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> RedisResult<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| failed("the host is no name that a certificate can have".into()))?,
        };
        let shown = name.to_str().into_owned();
        let connector = TlsConnector::from(self.current().config);
        let connected = async {
            let mut stream = connector.connect(name, stream).await?;
            // Answered with a line in any case, without credentials too. A server that
            // refuses us writes its line first and may close the connection at once.
            let asked = async {
                stream.write_all(b"PING\r\n").await?;
                stream.flush().await
            };
            let asked = asked.await;
            let line = first_line(&mut stream).await;
            if line.as_ref().is_err() {
                asked?;
            }
            Ok((stream, line?))
        };
        let connected = tokio::time::timeout(self.timeout, connected).await;
        let connected = connected.map_err(|_| {
            let timeout = self.timeout;
            failed(format!("no answer within {timeout:?}; does the server speak TLS at this port?"))
        })?;
        let (stream, line) =
            connected.map_err(|error: io::Error| match reason(&error, &shown) {
                Some(reason) => failed(reason),
                None => error.into(),
            })?;
        match refusal(&line) {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }
}

/// The first line that the server writes, without its end.
async fn first_line(stream: &mut TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            b'\r' => {}
            byte if line.len() < MAX_LINE_BYTES => line.push(byte),
            _ => {}
        }
    }
}

/// Longest part of the server's first line that is kept; Redis's longest has about 900.
const MAX_LINE_BYTES: usize = 2048;

/// The error of a server that does not serve us, if this first line is one. `NOAUTH` is none:
/// the credentials follow with the greeting. So is an error that only concerns PING, such as
/// `NOPERM`.
fn refusal(line: &[u8]) -> Option<RedisError> {
    if !line.starts_with(b"-") {
        return None;
    }
    let reply = redis::parse_redis_value(&[line, b"\r\n"].concat());
    let error = reply.and_then(Value::extract_error).err()?;
    let wants_credentials = error.code() == Some("NOAUTH");
    if wants_credentials { None } else { alive::<()>(Err(error)).err() }
}

/// The state of every file that [`Loaded::read`] reads, in a fixed order. Compared before each
/// handshake, which costs one `stat` per file and no reading. The files of `SSL_CERT_DIR` and
/// of the system are not watched.
fn stamps(options: &TlsOptions) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let roots = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let roots = roots.filter(|_| options.ca_file.is_none());
    let files = [&options.ca_file, &options.cert_file, &options.key_file, &roots];
    files.into_iter().map(|file| file.as_deref().and_then(stamp)).collect()
}

/// A certificate and key that TLS refuses.
fn unusable(error: rustls::Error) -> WrongOption {
    WrongOption { option: "cert_file", expected: EXPECTED_CERT, found: error.to_string() }
}

/// The system's roots, and whether an environment variable names them. Entries that cannot be
/// read are skipped.
fn of_the_system() -> (Vec<CertificateDer<'static>>, bool) {
    let loaded = rustls_native_certs::load_native_certs();
    let is_usable = |root: &CertificateDer<'_>| RootCertStore::empty().add(root.clone()).is_ok();
    let usable = |root: &CertificateDer<'static>| is_usable(&root.clone().into_owned());
    let trusted: Vec<_> = loaded.certs.into_iter().filter(usable).collect();
    let is_named = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if is_named && trusted.is_empty() {
        // Never fall back to other authorities than those that were asked for.
        crate::log::warn!(
            errors = ?loaded.errors,
            "SSL_CERT_FILE or SSL_CERT_DIR is set, and no certificate was found there: no server \
             is trusted"
        );
    }
    (trusted, is_named)
}
