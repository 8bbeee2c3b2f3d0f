//! Servers behind TLS with certificates of an authority that nobody else knows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rocket_jobqueue::internals::handshake_failure;
use rocket_jobqueue::internals::{PoolSettings, RedisPool, Repeat, TlsOptions, Topology};
use tempfile::TempDir;

use super::{NO_ARGS, hears_what_it_publishes, settings};
use crate::support::{PATIENCE, RedisServer, eventually};

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

    hears_what_it_publishes(&pool).await;

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
    assert!(eventually(PATIENCE, async || pool.ping().await.is_ok()).await);

    let error = cluster(trusting("other.crt")).unwrap().ping().await.unwrap_err();
    let reason = handshake_failure(&error).unwrap_or_default();
    assert!(reason.contains("the issuer of the server's certificate is unknown"), "{error:?}");
    let named = |name: &str| TlsOptions { server_name: Some(name.into()), ..trusting("ca.crt") };
    let pool = cluster(named("redis.internal")).unwrap();
    let get = |_| {
        let mut get = redis::cmd("GET");
        get.arg("key");
        get
    };
    // A new master serves its slots a moment after it has them.
    let serves = async || pool.run(Repeat::Safe, get).await.is_ok();
    assert!(eventually(PATIENCE, serves).await);
    // An application's own commands go through the `redis` crate, which knows no such name.
    let raw = get(0).query_async::<Option<String>>(&mut pool.connection()).await.unwrap_err();
    assert!(raw.to_string().contains("tls_server_name"), "{raw}");
    let error = cluster(named("redis.elsewhere")).unwrap().ping().await.unwrap_err();
    let reason = handshake_failure(&error).unwrap_or_default();
    assert!(reason.contains("is for another host"), "{error:?}");
}

#[tokio::test]
async fn renewed_certificate_files_are_used_from_the_next_connection_on() {
    let server = server("server", "yes", &[]);
    let own = TempDir::new().unwrap();
    let put = |from: &str, to: &str| std::fs::copy(file(from), own.path().join(to)).unwrap();
    put("other.crt", "ca.pem");
    put("client.crt", "client.pem");
    put("client.key", "key.pem");
    let options = TlsOptions {
        ca_file: Some(own.path().join("ca.pem")),
        cert_file: Some(own.path().join("client.pem")),
        key_file: Some(own.path().join("key.pem")),
        server_name: None,
    };
    let pool = pool("localhost", &server, options);
    assert!(pool.ping().await.is_err(), "the authority is unknown");
    // Half a renewal: what was read before stays in use.
    std::fs::write(own.path().join("ca.pem"), "half").unwrap();
    assert!(pool.ping().await.is_err());
    put("ca.crt", "ca.pem");
    let connects = async || pool.ping().await.is_ok();
    assert!(eventually(PATIENCE, connects).await);

    // A certificate of another authority, which the server does not accept.
    put("other.crt", "client.pem");
    put("other.key", "key.pem");
    let fresh = pool.detached();
    let refuses = async || {
        let answer = fresh.ping().await;
        answer.is_err_and(|error| handshake_failure(&error).is_some())
    };
    assert!(refuses().await, "a new connection shows the new certificate");
}

#[tokio::test]
async fn a_server_that_turns_clients_away_after_the_handshake_is_quoted() {
    for (line, refused) in [
        ("-DENIED Redis is running in protected mode because ...", true),
        ("-ERR max number of clients reached", false),
        ("-LOADING Redis is loading the dataset in memory", false),
    ] {
        let port = turns_away(line).await;
        let settings = settings(format!("localhost:{port}"));
        let tls_options = trusting("ca.crt");
        let pool = RedisPool::new(PoolSettings { tls: true, tls_options, ..settings }).unwrap();
        let error = pool.ping().await.unwrap_err();
        assert_eq!(error.is_refused(), refused, "{line}: {error:?}");
        let text = line.split_once(' ').unwrap().1;
        assert!(format!("{error:?}").contains(text), "{line}: {error:?}");
    }
}

/// A server that shakes hands, writes this line and closes the connection.
async fn turns_away(line: &'static str) -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::AsyncWriteExt;

    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(file("server.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(format!("{line}\r\n").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    port
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
