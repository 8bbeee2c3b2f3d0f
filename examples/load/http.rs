//! `POST /register` over HTTP, and a bare Rocket route to compare it with.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use redis::aio::MultiplexedConnection;
use rocket::http::Status;
use rocket::serde::json::{Json, Value, json};
use rocket::{State, post, routes};
use rocket_jobqueue::{JobId, JobQueue};
use serde::Deserialize;

use crate::meter::{self, Meter};
use crate::report::Report;
use crate::{Common, Outcome, app};

const PATH: &str = "/api/dm-jobqueue/register";
const BODY: &str = r#"{"message":"x","delay_seconds":3600}"#;

/// A server in a process of its own. It prints its port and ends when its input closes.
#[derive(Args)]
pub struct Serve {
    #[arg(long)]
    redis: String,
    #[arg(long)]
    bare: bool,
}

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(url: &str, bare: bool) -> Outcome<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--redis", url]);
    if bare {
        command.arg("--bare");
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("its output")?).read_line(&mut line)?;
    let mut server = Server { child, port: 0 };
    let wrong = |_| format!("the server: expected its port, found {line:?}");
    server.port = line.trim().parse().map_err(wrong)?;
    Ok(server)
}

pub async fn http(common: &Common, bare: bool) -> Outcome<Report> {
    let mut site = common.site().await?;
    let (jobs, concurrency) = (common.jobs(50_000), common.concurrency(10));
    let server = start(&site.url, bare)?;
    let process = server.child.id().to_string();
    // Connects before anything is measured.
    post_some(server.port, &Arc::new(AtomicU64::new(0)), 1).await?;
    site.clean().await?;
    let meter = Meter::begin(&mut site).await?;
    let before = meter::cpu(&process)?;
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let callers = (0..concurrency).map(|_| {
        let (next, port) = (Arc::clone(&next), server.port);
        tokio::spawn(async move { post_some(port, &next, jobs).await })
    });
    let mut each = Vec::with_capacity(jobs as usize);
    for caller in callers.collect::<Vec<_>>() {
        each.extend(caller.await??);
    }
    let took = began.elapsed();
    let served = (meter::cpu(&process)? - before) * 1e4 / jobs as f64;
    let mut report = meter.end(&mut site, "http", jobs, concurrency).await?;
    report.cpu_s_per_10k = report.cpu_s_per_10k.map(|own| own + served);
    let stored = site.count("scheduled").await?;
    site.clean().await?;
    if stored != jobs {
        return Err(format!("expected {jobs} jobs in Redis, found {stored}").into());
    }
    let report = report.took(took).spread(each);
    Ok(report.with("server_cpu_s_per_10k", served).with("bare", bare))
}

/// Sends requests on one connection, and returns the milliseconds of each.
async fn post_some(port: u16, next: &AtomicU64, jobs: u64) -> Outcome<Vec<f64>> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut each = Vec::new();
    while next.fetch_add(1, Ordering::Relaxed) < jobs {
        let request = Request::post(PATH)
            .header("Host", "127.0.0.1")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
        let began = Instant::now();
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        each.push(began.elapsed().as_secs_f64() * 1e3);
        if status != StatusCode::CREATED {
            return Err(format!("POST {PATH}: expected 201, found {status}").into());
        }
    }
    drop(sender);
    connection.await??;
    Ok(each)
}

pub async fn serve(options: &Serve) -> Outcome<()> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("address", "127.0.0.1"))
        .merge(("port", port));
    let rocket = rocket::custom(figment);
    let rocket = if options.bare {
        let client = redis::Client::open(options.redis.as_str())?;
        let connection = client.get_multiplexed_async_connection().await?;
        rocket.manage(Bare::new(connection)).mount("/", routes![bare_register])
    } else {
        rocket.attach(
            JobQueue::fairing()
                .set("databases.jobqueue.url", options.redis.as_str())
                .set("jobqueue.worker", false)
                .set("jobqueue.log_to_stderr", false),
        )
    };
    let liftoff = rocket::fairing::AdHoc::on_liftoff("port", move |_| {
        Box::pin(async move { println!("{port}") })
    });
    rocket.attach(liftoff).launch().await.map_err(|error| error.to_string())?;
    Ok(())
}

/// The minimum for a route that stores something with one script.
struct Bare {
    connection: MultiplexedConnection,
    script: redis::Script,
}

impl Bare {
    fn new(connection: MultiplexedConnection) -> Self {
        let script = redis::Script::new(
            "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
             redis.call('HSET', KEYS[1], 'msg', ARGV[1], 'state', 'scheduled')
             redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
             return 1",
        );
        Self { connection, script }
    }
}

#[derive(Deserialize)]
struct Body {
    message: String,
    delay_seconds: i64,
}

#[post("/api/dm-jobqueue/register", data = "<body>")]
async fn bare_register(
    body: Json<Body>,
    bare: &State<Bare>,
) -> Result<(Status, Json<Value>), Status> {
    let id = JobId::random();
    let due = app::now() / 1_000_000 + body.delay_seconds;
    let mut call = bare.script.prepare_invoke();
    call.key(format!("asynq:{{default}}:t:{id}")).key("asynq:{default}:scheduled");
    call.arg(&body.message).arg(due).arg(id.as_str());
    let mut connection = bare.connection.clone();
    let answer = call.invoke_async::<i64>(&mut connection);
    // The timeout of a route.
    let stored = tokio::time::timeout(Duration::from_secs(3), answer).await;
    match stored {
        Ok(Ok(1)) => {
            Ok((Status::Created, Json(json!({ "job_id": id.as_str(), "status": "registered" }))))
        }
        _ => Err(Status::ServiceUnavailable),
    }
}
