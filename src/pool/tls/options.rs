//! The options of TLS, each checked by reading the file that it names.

use std::path::PathBuf;
use std::sync::Arc;

use redis::ClientTlsConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::pem::{certificates, read};

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
pub(super) const EXPECTED_CERT: &str = "a PEM file with the client's certificate";
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
    pub(super) fn trusted(&self) -> Result<Option<Vec<CertificateDer<'static>>>, WrongOption> {
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
    pub(super) fn client(&self) -> Result<Option<ClientIdentity>, WrongOption> {
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
    pub(super) fn name(&self) -> Result<Option<ServerName<'static>>, WrongOption> {
        let name = self.server_name.clone().map(ServerName::try_from).transpose();
        name.map_err(|_| WrongOption {
            option: "server_name",
            expected: "a host name or an address",
            found: "another text".to_owned(),
        })
    }
}

/// The client's certificates and key.
pub(super) struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// The same in the form that the Redis library needs.
    pub pem: ClientTlsConfig,
}

/// The application's own provider, or ring. `rustls` wants one of them for the whole process.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let given = CryptoProvider::get_default().cloned();
    given.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}
