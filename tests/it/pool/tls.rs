//! Servers behind TLS with certificates of an authority that nobody else knows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rocket_jobqueue::internals::handshake_failure;
use rocket_jobqueue::internals::{PoolSettings, RedisPool, Repeat, TlsOptions, Topology};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{NO_ARGS, listen, settings};
use crate::support::{RedisServer, eventually};

/// Two authorities and what they issued, made once.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let script = r#"
            new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            for ca in ca other; do
              openssl req -x509 $new -keyout $ca.key -out $ca.crt -days 2 -subj "/CN=Authority $ca"
            done
            issue() { # name, days, extensions
              openssl req $new -keyout $1.key -out $1.csr -subj "/CN=$1"
              printf '%s\n' "$3" >$1.ext
              openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $1.crt -days $2 -extfile $1.ext
            }
            issue server 2 'subjectAltName=DNS:localhost,DNS:redis.internal,IP:127.0.0.1'
            issue expired -1 'subjectAltName=DNS:localhost'
            issue elsewhere 2 'subjectAltName=DNS:redis.example.com'
            issue client 2 'extendedKeyUsage=clientAuth'
        "#;
        let made = Command::new("sh").args(["-ec", script]).current_dir(folder.path()).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    });
    folder.path()
}

fn file(name: &str) -> PathBuf {
    folder().join(name)
}

/// A server that shows this certificate and asks clients for theirs, or does not.
fn server(certificate: &str, wants_client: &str, args: &[&str]) -> RedisServer {
    let path = |name: &str| file(name).display().to_string();
    RedisServer::prepare(&NO_ARGS)
        .with_tls()
        .with_args(&["--tls-cert-file", &path(&format!("{certificate}.crt"))])
        .with_args(&["--tls-key-file", &path(&format!("{certificate}.key"))])
        .with_args(&["--tls-ca-cert-file", &path("ca.crt"), "--tls-auth-clients", wants_client])
        .with_args(args)
        .started()
}

fn trusting(ca: &str) -> TlsOptions {
    TlsOptions { ca_file: Some(file(ca)), ..TlsOptions::default() }
}

fn pool(host: &str, server: &RedisServer, tls_options: TlsOptions) -> RedisPool {
    let settings = settings(format!("{host}:{}", server.port()));
    RedisPool::new(PoolSettings { tls: true, tls_options, ..settings }).unwrap()
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_file_and_by_the_systems_variable() {
    // The second half runs in a process of its own, whose variable it is.
    if let Ok(port) = std::env::var("TLS_TEST_PORT") {
        let settings = settings(format!("localhost:{port}"));
        let pool = RedisPool::new(PoolSettings { tls: true, ..settings }).unwrap();
        return pool.ping().await.unwrap();
    }
    let server = server("server", "no", &["--requirepass", "secret"]);
    let mut settings = settings(format!("localhost:{}", server.port()));
    settings = PoolSettings { tls: true, tls_options: trusting("ca.crt"), ..settings };
    settings.password = Some("secret".to_owned());
    settings.db = 2;
    let pool = RedisPool::new(settings.clone()).unwrap();
    pool.ping().await.unwrap();

    let stop = CancellationToken::new();
    let (heard, task) = listen(&pool, &stop);
    let publish = |_| {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg("news").arg("hello");
        publish
    };
    let is_heard = eventually(Duration::from_secs(10), || async {
        pool.run(Repeat::Safe, publish).await.unwrap();
        !heard.lock().unwrap().is_empty()
    });
    assert!(is_heard.await, "subscriptions speak TLS too");
    stop.cancel();
    task.await.unwrap();

    settings.password = Some("wrong".to_owned());
    let error = RedisPool::new(settings).unwrap().ping().await.unwrap_err();
    assert!(error.is_refused(), "{error}");

    let open = self::server("server", "no", &[]);
    let name = "pool::tls::a_private_authority_is_trusted_by_file_and_by_the_systems_variable";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("TLS_TEST_PORT", open.port().to_string())
        .env("SSL_CERT_FILE", file("ca.crt"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_expects_the_name_it_is_told() {
    let server = server("server", "yes", &[]);
    let identity = TlsOptions {
        cert_file: Some(file("client.crt")),
        key_file: Some(file("client.key")),
        server_name: Some("redis.internal".to_owned()),
        ..trusting("ca.crt")
    };
    pool("127.0.0.1", &server, identity).ping().await.unwrap();

    let mismatched = TlsOptions {
        cert_file: Some(file("client.crt")),
        key_file: Some(file("server.key")),
        ..trusting("ca.crt")
    };
    let topology = Topology::Single("localhost:1".to_owned());
    let settings =
        PoolSettings { tls: true, tls_options: mismatched, topology, ..settings(String::new()) };
    let error = RedisPool::new(settings).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("tls_key_file: expected a PEM file with the private key"), "{error}");
}

#[tokio::test]
async fn a_cluster_is_trusted_by_file() {
    let server = server("server", "no", &["--cluster-enabled", "yes", "--tls-cluster", "yes"]);
    let port = server.port().to_string();
    let mut cli = Command::new("redis-cli");
    cli.args(["-h", "localhost", "-p", &port, "--tls", "--cacert"]).arg(file("ca.crt"));
    cli.args(["cluster", "addslots"]).args((0..16_384).map(|slot| slot.to_string()));
    assert!(cli.output().unwrap().status.success());

    let cluster = |tls_options| {
        let topology = Topology::Cluster(vec![format!("127.0.0.1:{port}")]);
        RedisPool::new(PoolSettings { tls: true, tls_options, topology, ..PoolSettings::default() })
    };
    let pool = cluster(trusting("ca.crt")).unwrap();
    assert!(eventually(Duration::from_secs(20), async || pool.ping().await.is_ok()).await);

    let error = cluster(trusting("other.crt")).unwrap().ping().await.unwrap_err();
    let reason = handshake_failure(&error).unwrap_or_default();
    assert!(reason.contains("the issuer of the server's certificate is unknown"), "{error:?}");
    let named = TlsOptions { server_name: Some("x".to_owned()), ..trusting("ca.crt") };
    assert!(cluster(named).map(drop).unwrap_err().to_string().starts_with("tls_server_name:"));
}

#[tokio::test]
async fn a_failed_handshake_is_explained() {
    let plain = RedisServer::start(&NO_ARGS);
    let fine = server("server", "no", &[]);
    let strict = server("server", "yes", &[]);
    let expired = server("expired", "no", &[]);
    let elsewhere = server("elsewhere", "no", &[]);
    let stranger = TlsOptions {
        cert_file: Some(file("other.crt")),
        key_file: Some(file("other.key")),
        ..trusting("ca.crt")
    };
    let table = [
        (
            &fine,
            trusting("other.crt"),
            "the issuer of the server's certificate is unknown; name its authority with tls_ca_file",
        ),
        (&fine, TlsOptions::default(), "the issuer of the server's certificate is unknown"),
        (&expired, trusting("ca.crt"), "the server's certificate has expired"),
        (
            &elsewhere,
            trusting("ca.crt"),
            r#"is for another host: ["DnsName(\"redis.example.com\")"], not "localhost""#,
        ),
        (&strict, trusting("ca.crt"), "the server wants a client certificate; give tls_cert_file"),
        (&strict, stranger, "client certificate"),
        (&plain, trusting("ca.crt"), "speak TLS at this port"),
    ];
    for (server, options, expected) in table {
        let error = pool("localhost", server, options).ping().await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(error.to_string(), "Redis is not connected");
        let reason = handshake_failure(&error).unwrap_or_else(|| panic!("{expected}: {error:?}"));
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}
