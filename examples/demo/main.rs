//! An application with a job queue, as a user would write it.
//!
//! ```sh
//! cargo run --example demo                       # jobs in data/jobqueue, nothing installed
//! cargo run --example demo -- --memory           # jobs end with the process
//! cargo run --example demo -- --redis localhost:6379
//! APP_ENV=develop cargo run --example demo       # as config/develop says
//! ```
//!
//! `--path` names another folder than `data/jobqueue`; a folder belongs to one process at a time.
//! `--no-greeting` registers no job at the start. `--worker` starts a process that only runs jobs
//! and answers health checks on port 8082.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod greeting;
mod jobs;
mod routes;

use std::io::Write;
use std::process::ExitCode;

use rocket::fairing::AdHoc;
use rocket::{Build, Orbit, Rocket};
use rocket_jobqueue::settings::Store;
use rocket_jobqueue::{JobQueue, rate_limit::RateLimit};

use routes::{Admin, Token};

const USAGE: &str =
    "usage: demo [--path FOLDER | --memory | --redis HOST:PORT] [--no-greeting] [--worker]";

/// The folder of the jobs if nobody names a store.
const FOLDER: &str = "data/jobqueue";

#[derive(Default)]
struct Options {
    redis: Option<String>,
    path: Option<String>,
    memory: bool,
    no_greeting: bool,
    worker: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--redis" => {
                    let address =
                        words.next().ok_or("--redis: expected HOST:PORT, found nothing")?;
                    options.redis = Some(address);
                }
                "--path" => {
                    let path = words.next().ok_or("--path: expected a folder, found nothing")?;
                    options.path = Some(path);
                }
                "--memory" => options.memory = true,
                "--no-greeting" => options.no_greeting = true,
                "--worker" => options.worker = true,
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        let stores = [options.redis.is_some(), options.path.is_some(), options.memory];
        match stores.into_iter().filter(|named| *named).count() {
            0 | 1 => Ok(options),
            _ => Err("expected one of --path, --memory and --redis, found several".to_owned()),
        }
    }

    /// The folder of the jobs.
    fn folder(&self) -> &str {
        self.path.as_deref().unwrap_or(FOLDER)
    }

    /// Whether jobs are kept in that folder.
    fn on_disk(&self) -> bool {
        self.path.is_some() || self.nothing_said()
    }

    /// Whether neither the environment nor the command line names a store.
    fn nothing_said(&self) -> bool {
        let said = |name: &str| {
            name == "APP_ENV"
                || name == "REDIS_JOBQUEUE_ADDR"
                || name.starts_with("ROCKET_DATABASES")
                || name.starts_with("ROCKET_JOBQUEUE")
        };
        let named = self.redis.is_some() || self.path.is_some() || self.memory;
        !named && !std::env::vars_os().any(|(name, _)| said(&name.to_string_lossy()))
    }
}

/// The process that uses this folder now, as it wrote there.
fn user_of(folder: &str) -> Option<String> {
    let holder = std::path::Path::new(folder).join("holder");
    let file = std::fs::File::open(&holder).ok()?;
    let is_used = matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock));
    is_used.then(|| std::fs::read_to_string(holder).unwrap_or_default())
}

fn build(options: Options) -> Rocket<Build> {
    let mut figment = rocket::Config::figment();
    if std::env::var_os("ROCKET_LOG_LEVEL").is_none() {
        // Standard output belongs to the lines of the reference job.
        figment = figment.merge(("log_level", "off"));
    }
    let mut queue = JobQueue::fairing()
        .handle(jobs::count_visit)
        .handle(jobs::send_order)
        .handle(jobs::nap)
        .admin_guard::<Admin>()
        .login_url("/login");
    let mut limit = RateLimit::fairing();
    if options.nothing_said() || options.path.is_some() || options.memory {
        queue = queue.environment("embedded");
        limit = limit.environment("embedded");
        if !options.memory {
            queue = queue.disk(options.folder());
        }
    }
    if let Some(address) = &options.redis {
        queue = queue.set("databases.jobqueue.url", format!("redis://{address}"));
        limit = limit.set("redis.default.cluster.addrs", [address]);
    }
    let rocket = rocket::custom(figment).manage(jobs::Visits::default());
    if options.worker {
        return rocket.attach(queue.worker_only()).attach(AdHoc::on_liftoff("Welcome", |rocket| {
            Box::pin(async { welcome_worker(rocket) })
        }));
    }
    rocket
        .manage(Token(uuid::Uuid::new_v4().simple().to_string()))
        .attach(queue)
        .attach(AdHoc::on_ignite("Old greetings", greeting::forget_old))
        .attach(limit)
        .mount("/", routes::all())
        .attach(AdHoc::on_liftoff("Welcome", move |rocket| {
            Box::pin(async move {
                say_store(&options);
                welcome(rocket);
                if !options.no_greeting {
                    greeting::spawn(rocket);
                }
            })
        }))
}

/// Prints a line for a person on standard error, as a whole: log lines come from another thread,
/// and would stand in the middle of it.
fn say(line: &str) {
    let line = format!("  {line}\n");
    // A closed standard error must not stop the demo.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The same from a handler, which must not wait for a reader of standard error: on a thread of its
/// own, which ends by itself or with the process.
fn say_aside(line: String) {
    std::thread::spawn(move || say(&line));
}

/// The address to type on this machine.
fn origin(rocket: &Rocket<Orbit>) -> String {
    let config = rocket.config();
    let host = match config.address {
        any if any.is_unspecified() => "localhost".to_owned(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
        address => address.to_string(),
    };
    format!("http://{host}:{}", config.port)
}

/// Where jobs are, once that is true.
fn say_store(options: &Options) {
    if options.memory {
        say("running embedded: jobs live in this process and end with it");
    } else if options.on_disk() {
        let folder = options.folder();
        say(&format!("running embedded: jobs are kept in {folder}, no Redis needed"));
    } else {
        return;
    }
    say("with Redis: cargo run --example demo -- --redis localhost:6379");
}

fn welcome(rocket: &Rocket<Orbit>) {
    let (Some(queue), Some(Token(token))) = (rocket.state::<JobQueue>(), rocket.state::<Token>())
    else {
        return;
    };
    let (origin, config) = (origin(rocket), queue.config());
    let base = format!("{origin}{}", config.base);
    let store = match config.store {
        Store::Memory => "this process's memory".to_owned(),
        Store::Disk => config.path.display().to_string(),
        _ => "Redis".to_owned(),
    };
    say("");
    say(&format!("listening    {origin}"));
    match config.register_route {
        true => say(&format!("register     {base}/ui/register")),
        false => say("register     switched off (jobqueue.register_route = false)"),
    }
    say(&format!("API docs     {base}/docs"));
    say(&format!("dashboard    {base}/ui?token={token}"));
    say(&format!("queue        {store}, base {}", config.base));
    say("");
}

fn welcome_worker(rocket: &Rocket<Orbit>) {
    if let Some(queue) = rocket.state::<JobQueue>() {
        say(&format!("worker only, health at {}{}/health", origin(rocket), queue.config().base));
    }
}

#[rocket::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            say(&format!("demo: {error}"));
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    if options.on_disk()
        && let Some(pid) = user_of(options.folder())
    {
        say(&format!(
            "demo: {} is used by process {pid}: stop it, or start this one with --path FOLDER or \
             --memory",
            options.folder()
        ));
        return ExitCode::FAILURE;
    }
    match build(options).launch().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}
