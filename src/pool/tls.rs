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

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use redis::{ClientTlsConfig, RedisError, RedisResult, TlsCertificates, Value};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::handshake::{failed, reason};
use super::role::alive;
use crate::sync::lock;

/// The certificates for TLS. The default trusts the system's roots, which `SSL_CERT_FILE`
/// and `SSL_CERT_DIR` replace; on a system without any, Mozilla's, which are built in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, with the chain behind it: a PEM file. Needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The client's private key, not encrypted: a PEM file. Needs `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The name that the servers' certificates must have, if it is not the host's. On a
    /// Cluster an application's own commands cannot use it and fail: the Redis library sends
    /// them, which expects each node's own name.
    pub server_name: Option<String>,
}

/// An option that cannot be used. The caller puts the key's full path in front of it.
pub(crate) struct WrongOption {
    /// `ca_file` and so on.
    pub option: &'static str,
    pub expected: &'static str,
    pub found: String,
}

const EXPECTED_CA: &str = "a PEM file with one certificate or more";
const EXPECTED_CERT: &str = "a PEM file with the client's certificate";
const EXPECTED_KEY: &str = "a PEM file with the private key of that certificate, not encrypted";

impl TlsOptions {
    /// Reads and checks the files. Called at launch, before anything is dialled, so that a
    /// wrong path is reported with its configuration key.
    pub(crate) fn check(&self) -> Result<(), WrongOption> {
        self.trusted()?;
        self.client()?;
        self.name()?;
        Ok(())
    }

    /// The authorities of `ca_file`; `None` without that option. Every certificate in the file
    /// must be usable: a file with one wrong entry is refused rather than trusted in part.
    fn trusted(&self) -> Result<Option<Vec<CertificateDer<'static>>>, WrongOption> {
        let wrong = |found| WrongOption { option: "ca_file", expected: EXPECTED_CA, found };
        let Some(file) = &self.ca_file else { return Ok(None) };
        let certificates = certificates(&read(file).map_err(wrong)?).map_err(wrong)?;
        let (_, unusable) = RootCertStore::empty().add_parsable_certificates(certificates.clone());
        match unusable {
            0 => Ok(Some(certificates)),
            _ => Err(wrong("one that is no certificate of an authority".to_owned())),
        }
    }

    /// The client's certificates and key; `None` if neither is given. One without the other is
    /// an error, and so is a key that does not belong to the certificate.
    fn client(&self) -> Result<Option<ClientIdentity>, WrongOption> {
        let (cert, key) = match (&self.cert_file, &self.key_file) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                let (option, found) = ("cert_file", "none".to_owned());
                return Err(WrongOption { option, expected: "tls_key_file beside it", found });
            }
            (None, Some(_)) => {
                let (option, found) = ("key_file", "none".to_owned());
                return Err(WrongOption { option, expected: "tls_cert_file beside it", found });
            }
        };
        let wrong = |found| WrongOption { option: "cert_file", expected: EXPECTED_CERT, found };
        let cert = read(cert).map_err(wrong)?;
        let chain = certificates(&cert).map_err(wrong)?;
        let wrong = |found| WrongOption { option: "key_file", expected: EXPECTED_KEY, found };
        let key_pem = read(key).map_err(wrong)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| wrong("a file without one".to_owned()))?;
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(RootCertStore::empty()))
            .and_then(|builder| builder.with_client_auth_cert(chain.clone(), key.clone_key()))
            .map_err(|error| wrong(error.to_string()))?;
        let pem = ClientTlsConfig { client_cert: cert, client_key: key_pem };
        Ok(Some(ClientIdentity { chain, key, pem }))
    }

    /// The expected name, parsed.
    fn name(&self) -> Result<Option<ServerName<'static>>, WrongOption> {
        let name = self.server_name.clone().map(ServerName::try_from).transpose();
        name.map_err(|_| WrongOption {
            option: "server_name",
            expected: "a host name or an address",
            found: "another text".to_owned(),
        })
    }
}

/// The client's certificates and key.
struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The same in the form that the Redis library needs.
    pem: ClientTlsConfig,
}

/// Reads a file; the error says why not.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{error} ({})", file.display()))
}

/// The certificates of a PEM text, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("a file without one".to_owned()),
    }
}

/// The application's own provider, or ring. `rustls` wants one of them for the whole process.
fn provider() -> Arc<CryptoProvider> {
    let given = CryptoProvider::get_default().cloned();
    given.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// Everything that a handshake needs. The files are read again when they have changed, so
/// that a renewed certificate is used from the next connection on.
pub(super) struct Tls {
    options: TlsOptions,
    name: Option<ServerName<'static>>,
    /// Timeout of the handshake: less than the dial's, so that its failure can be reported.
    timeout: Duration,
    files: Mutex<Files>,
}

/// The files as they were read last.
struct Files {
    stamps: Vec<Stamp>,
    /// The stamps of the last attempt that failed, so that each failure is logged once.
    refused: Option<Vec<Stamp>>,
    loaded: Loaded,
}

/// When a file was changed and its size; `None` if it cannot be seen.
type Stamp = Option<(SystemTime, u64)>;

/// Files in the form that a handshake needs.
#[derive(Clone)]
struct Loaded {
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

/// The Redis library takes certificates as PEM only.
fn pem_of(certificate: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    // 48 bytes are a line of 64 digits.
    for line in certificate.chunks(48) {
        for three in line.chunks(3) {
            let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit)) as usize & 63;
                pem.push(if digit <= three.len() { DIGITS[value] } else { b'=' });
            }
        }
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_becomes_pem_that_reads_the_same() {
        for length in [1, 2, 3, 47, 48, 49, 500] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 256) as u8).collect();
            let pem = pem_of(&bytes);
            assert_eq!(certificates(&pem).unwrap()[0].as_ref(), bytes, "{length} bytes");
        }
    }
}
