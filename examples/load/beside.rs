//! The application's own enqueues and its worker beside viewers who overload the pages. For
//! comparison the same client requests a trivial route equally often.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rocket::fairing::AdHoc;
use rocket::{State, get, routes};
use rocket_jobqueue::{Draft, Job, JobQueue, Managed};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pages::Anybody;
use crate::report::part;
use crate::site::Site;
use crate::{Outcome, app};

const BASE: &str = "/api/dm-jobqueue";

/// Pause between two enqueues of the application.
const PAUSE: Duration = Duration::from_millis(5);

/// The kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// 8 callers, each requesting one page of 100 jobs of 1 MB after another.
    Pages,
    /// 8 callers of `/ui/groups` beside 100,000 queue names.
    Groups,
    /// 1,000 callers that wait 60 s by one status link.
    Links,
    /// 2,000 streams of `/ui/events`.
    Events,
    /// 8 callers of a trivial route.
    Hello,
}

impl Attack {
    fn callers(self) -> u64 {
        match self {
            Self::Pages | Self::Groups | Self::Hello => 8,
            Self::Links => 1000,
            Self::Events => 2000,
        }
    }
}

#[derive(Args)]
pub struct Options {
    /// The kind of attack
    attack: Attack,
    /// Seconds per measurement
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=60))]
    seconds: u64,
    /// Number of alternating measurements of attack and comparison
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
}

/// Measures the application beside an attack, and beside the same client on a trivial route.
pub async fn beside(options: &Options) -> Outcome<()> {
    let mut site = Site::open(None, false, 0.0).await?;
    match options.attack {
        Attack::Pages => {
            let client = app::producer(&site).await?;
            let queue = app::queue(&client)?;
            for _ in 0..100 {
                let text = serde_json::to_vec(&"x".repeat(rocket_jobqueue::MAX_PAYLOAD - 2))?;
                queue
                    .enqueue_all([Draft::raw("large", Some(text)).queue("large")])
                    .await
                    .pop()
                    .ok_or("an answer")??;
            }
            client.terminate().await;
        }
        Attack::Groups => {
            let mut add = redis::cmd("SADD");
            add.arg("asynq:queues");
            (0..100_000).for_each(|n| _ = add.arg(format!("tenant-{n}")));
            add.query_async::<()>(&mut site.connection).await?;
        }
        Attack::Links | Attack::Events | Attack::Hello => {}
    }
    let mut host = Host::start(&site.url)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!(
        "{:<10} {:>10} {:>9} {:>12} {:>12} {:>12} {:>12} {:>7}",
        "beside",
        "asked/s",
        "CPU %",
        "enqueue p50",
        "enqueue p99",
        "start p50",
        "start p99",
        "failed"
    );
    for _ in 0..options.rounds {
        let asked = measure(&mut host, options.attack, options.seconds, None).await?;
        measure(&mut host, Attack::Hello, options.seconds, Some(asked)).await?;
    }
    Ok(())
}

/// Prints one row and returns the requests per second.
async fn measure(host: &mut Host, attack: Attack, seconds: u64, rate: Option<u64>) -> Outcome<u64> {
    // What the one before has left ends first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut command = tokio::process::Command::new("nice");
    command.args(["-n", "19"]).arg(std::env::current_exe()?);
    command.args(["ask", "--port", &host.port.to_string(), "--link", &host.link]);
    command.args(["--seconds", &seconds.to_string()]);
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    command.arg(attack.to_possible_value().ok_or("a name")?.get_name());
    let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    // Connected, and at it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.take()?;
    let cpu = crate::meter::cpu(&host.child.id().to_string())?;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds - 1)).await;
    let found = host.take()?;
    let cpu =
        (crate::meter::cpu(&host.child.id().to_string())? - cpu) / began.elapsed().as_secs_f64();
    let output = child.wait_with_output().await?;
    let asked: u64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    let name = format!("{attack:?}").to_lowercase();
    let per_second = asked / seconds;
    println!(
        "{name:<10} {per_second:>10} {:>9.0} {:>12.2} {:>12.2} {:>12.2} {:>12.2} {:>7}",
        cpu * 100.0,
        found.enqueue.0,
        found.enqueue.1,
        found.start.0,
        found.start.1,
        found.failed
    );
    Ok(per_second)
}

/// The application, in a process of its own.
struct Host {
    child: Child,
    port: u16,
    link: String,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // A failure means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    fn start(url: &str) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["host", "--redis", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().ok_or("its input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("its output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let (port, link) = line.trim().split_once(' ').ok_or("its port and a link")?;
        let (port, link) = (port.parse()?, link.to_owned());
        Ok(Self { child, port, link, input, output })
    }

    /// The measurements since the last call.
    fn take(&mut self) -> Outcome<Found> {
        self.input.write_all(b"\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The median and the 99th percentile in milliseconds.
#[derive(Serialize, Deserialize)]
struct Found {
    enqueue: (f64, f64),
    start: (f64, f64),
    failed: u64,
}

/// The application: it enqueues and runs jobs, and reports how long that takes.
#[derive(Args)]
pub struct HostOptions {
    #[arg(long)]
    redis: String,
}

#[derive(Serialize, Deserialize)]
struct Stamped {
    sent: i64,
}

impl Job for Stamped {
    const TYPE: &'static str = "stamped";
}

#[derive(Clone, Default)]
struct Times(Arc<Mutex<HashMap<&'static str, Vec<f64>>>>);

impl Times {
    fn note(&self, what: &'static str, since: i64) {
        let ms = (app::now() - since) as f64 / 1e3;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(what).or_default().push(ms);
    }

    fn take(&self) -> Found {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut of = |what| {
            let mut each = all.remove(what).unwrap_or_default();
            each.sort_unstable_by(f64::total_cmp);
            (part(&each, 0.5).unwrap_or(f64::NAN), part(&each, 0.99).unwrap_or(f64::NAN))
        };
        let (enqueue, start) = (of("enqueue"), of("start"));
        Found { enqueue, start, failed: all.remove("failed").map_or(0, |all| all.len() as u64) }
    }
}

async fn stamped(job: Stamped, times: Managed<Times>) -> Result<(), std::io::Error> {
    times.note("start", job.sent);
    Ok(())
}

#[get("/hello")]
fn hello(_times: &State<Times>) -> &'static str {
    "hello"
}

pub async fn host(options: &HostOptions) -> Outcome<()> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("address", "127.0.0.1"))
        .merge(("port", port));
    let times = Times::default();
    let fairing = JobQueue::fairing()
        .handle(stamped)
        .admin_guard::<Anybody>()
        .set("databases.jobqueue.url", options.redis.as_str())
        .set("jobqueue.log_to_stderr", false);
    let at_liftoff = times.clone();
    let liftoff = AdHoc::on_liftoff("the application's own work", move |rocket| {
        let times = at_liftoff;
        Box::pin(async move {
            let Some(queue) = rocket.state::<JobQueue>().cloned() else { return };
            let far = Draft::new(Stamped { sent: 0 }).delay(Duration::from_secs(86_400));
            let Some(Ok(receipt)) = queue.enqueue_all([far]).await.pop() else { return };
            let good_for = Duration::from_secs(3600);
            println!("{port} {}", queue.status_link(&receipt.queue, &receipt.id, good_for));
            let told = times.clone();
            std::thread::spawn(move || {
                for _ in std::io::stdin().lines().map_while(Result::ok) {
                    println!("{}", serde_json::to_string(&told.take()).unwrap_or_default());
                }
                std::process::exit(0);
            });
            tokio::spawn(async move {
                let mut interval = tokio::time::interval(PAUSE);
                loop {
                    interval.tick().await;
                    let (queue, times) = (queue.clone(), times.clone());
                    tokio::spawn(async move {
                        let sent = app::now();
                        match queue.enqueue(Stamped { sent }).await {
                            Ok(_) => times.note("enqueue", sent),
                            Err(_) => times.note("failed", sent),
                        }
                    });
                }
            });
        })
    });
    let rocket = rocket::custom(figment).manage(times).mount("/", routes![hello]);
    rocket.attach(fairing).attach(liftoff).launch().await.map_err(|error| error.to_string())?;
    Ok(())
}

/// The attacking clients.
#[derive(Args)]
pub struct Ask {
    attack: Attack,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    link: String,
    #[arg(long)]
    seconds: u64,
    /// Requests per second of all together.
    #[arg(long)]
    rate: Option<u64>,
}

/// Sends requests until the time is over, and prints the number of responses or stream chunks.
pub async fn ask(options: &Ask) -> Outcome<()> {
    let path = match options.attack {
        Attack::Pages => format!("{BASE}/queues/large/jobs?size=100"),
        Attack::Groups => format!("{BASE}/ui/groups"),
        Attack::Links => format!("{}?wait=60", options.link),
        Attack::Events => format!("{BASE}/ui/events"),
        Attack::Hello => "/hello".to_owned(),
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (port, came) = (options.port, Arc::new(AtomicU64::new(0)));
    let callers = options.attack.callers();
    let between =
        options.rate.map(|rate| Duration::from_secs_f64(callers as f64 / rate.max(1) as f64));
    for n in 0..callers {
        let (request, came) = (request.clone(), Arc::clone(&came));
        tokio::spawn(async move {
            // Not all in one moment.
            tokio::time::sleep(between.unwrap_or_default().mul_f64(n as f64 / callers as f64))
                .await;
            loop {
                let began = Instant::now();
                let refused = ask_once(port, &request, &came).await.unwrap_or(true);
                let pause =
                    if refused { Duration::from_secs(1) } else { between.unwrap_or_default() };
                tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    println!("{}", came.load(Ordering::Relaxed));
    Ok(())
}

/// Whether it was refused; counts what is received.
async fn ask_once(port: u16, request: &str, came: &AtomicU64) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 1 << 16];
    let mut read = stream.read(&mut buffer).await?;
    let refused = !buffer[..read].starts_with(b"HTTP/1.1 200");
    came.fetch_add(1, Ordering::Relaxed);
    while read > 0 {
        read = stream.read(&mut buffer).await?;
        // Pieces of a stream are small, and each costs as much as an answer.
        came.fetch_add(u64::from((1..1024).contains(&read)), Ordering::Relaxed);
    }
    Ok(refused)
}
