//! Why a TLS handshake failed, as a text that says what to change.
//!
//! `rustls` reports what it saw (an alert, an unknown issuer), the operator needs to know which
//! setting or certificate is wrong. The text travels inside the error of the Redis library, and
//! [`handshake_failure`] takes it out again for the log.
//!
//! Each text names the configuration key that helps (`tls_ca_file`, `tls_server_name`,
//! `tls_cert_file`), because a failed handshake is nearly always a matter of configuration.
//! None of them contains a secret: names of hosts and keys only.

use std::fmt;
use std::io;

use redis::RedisError;
use rustls::{AlertDescription, CertificateError};

/// Why a TLS connection could not be established.
#[derive(Debug)]
struct HandshakeFailure(String);

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TLS handshake failed: {}", self.0)
    }
}

impl std::error::Error for HandshakeFailure {}

/// Has the failure as its source: an error of the Redis library hides the `io::Error` inside,
/// but not the sources of that.
#[derive(Debug)]
struct Carrier(HandshakeFailure);

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Carrier {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The library's error for a failed handshake, with this reason inside.
pub(super) fn failed(reason: String) -> RedisError {
    io::Error::other(Carrier(HandshakeFailure(reason))).into()
}

/// The reason, if a failed handshake is behind this error. The launch check and the log line
/// about a lost connection use it: "connection lost" alone would not tell that a certificate is
/// wrong.
pub fn handshake_failure(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut sources = std::iter::successors(Some(error), |error| error.source());
    sources.find_map(|error| error.downcast_ref::<HandshakeFailure>().map(ToString::to_string))
}

/// What went wrong, and what to do. `name` is the host name that the certificate was checked
/// for. `None` if it has nothing to do with TLS, such as a connection reset.
pub(super) fn reason(error: &io::Error, name: &str) -> Option<String> {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Some("the server closed the connection: does it speak TLS at this port?".into());
    }
    let text = match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => {
            format!("invalid peer certificate: {}", of_certificate(why, name))
        }
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS at this port".to_owned(),
        other => other.to_string(),
    };
    Some(text)
}

/// What is wrong with the server's certificate, and what to change. `name` is the expected
/// name. Two mistakes are recognised by the text of the error, because `rustls` has no variant
/// for them.
fn of_certificate(why: &CertificateError, name: &str) -> String {
    let words = match why {
        CertificateError::UnknownIssuer => {
            "the issuer of the server's certificate is unknown; name its authority with \
             tls_ca_file, or add it to the system's roots (SSL_CERT_FILE)"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet, by this machine's clock"
        }
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            return format!(
                "the server's certificate is for another host: {presented:?}, not {name:?}; \
                 connect by one of its names, or give it with tls_server_name"
            );
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            return format!(
                "the server's certificate is for another host, not {name:?}; connect by its \
                 name, or give it with tls_server_name"
            );
        }
        CertificateError::Revoked => "the server's certificate has been revoked",
        other => {
            let text = format!("{other:?}");
            return match text.as_str() {
                text if text.contains("CaUsedAsEndEntity") => {
                    "the server shows the certificate of \
                    an authority; it needs one that an authority has issued for it"
                        .to_owned()
                }
                text if text.contains("UnsupportedCertVersion") => {
                    "the server's certificate is of \
                    version 1, without subjectAltName; issue one of version 3"
                        .to_owned()
                }
                _ => format!("the server's certificate is not valid: {other}"),
            };
        }
    };
    words.to_owned()
}

/// What the server's alert means, and what to change.
fn of_alert(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::CertificateRequired => {
            "the server wants a client certificate; give tls_cert_file and tls_key_file"
        }
        AlertDescription::UnknownCA => {
            "the server does not know the issuer of the client certificate, or got none; see \
             tls_cert_file"
        }
        AlertDescription::CertificateExpired => "the client certificate has expired",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => {
            "the server does not accept the client certificate; see tls_cert_file"
        }
        AlertDescription::HandshakeFailure => {
            "the server found no common way to speak TLS, or wants a client certificate \
             (tls_cert_file)"
        }
        AlertDescription::ProtocolVersion => "the server speaks no TLS version from 1.2 on",
        AlertDescription::UnrecognisedName => "the server knows no such host name",
        other => return format!("the server ended it: {other:?}"),
    };
    words.to_owned()
}
