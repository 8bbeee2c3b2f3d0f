//! A process of the campaign: a worker, a producer or an operator, told what to do
//! by one argument. It uses the stable public API alone, so that the same source
//! compiles against older versions of the library.

pub mod ledger;
mod operate;
mod produce;
pub mod settings;
mod work;

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use rocket::fairing::AdHoc;
use rocket_jobqueue::{JobQueue, JobQueueFairing};

use ledger::Ledger;
use settings::{Role, Settings};

/// Runs the role until it is told to stop or killed.
pub fn run(settings: &str) -> ExitCode {
    let settings: Settings = match serde_json::from_str(settings) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("no settings of a peer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ledger = Arc::new(Ledger::open(&settings.ledger));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads)
        .enable_all()
        .build()
        .expect("a runtime");
    let done = runtime.block_on(async {
        match settings.role {
            Role::Worker => serve(&settings, &ledger).await,
            Role::Producer => produce::run(&settings, &ledger).await,
            Role::Operator => operate::run(&settings, &ledger).await,
        }
    });
    match done {
        Ok(()) => {
            ledger.line("D");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ledger.line(&format!("X {}", one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

/// A worker as an application would have it: signals, liftoff and drain are Rocket's.
async fn serve(settings: &Settings, ledger: &Arc<Ledger>) -> Result<(), String> {
    end_with_the_harness();
    let up = Arc::clone(ledger);
    let liftoff = AdHoc::on_liftoff("Ledger", move |_| Box::pin(async move { up.line("U") }));
    let rocket = application(settings, work::handlers(fairing(settings), settings, ledger));
    rocket.attach(liftoff).launch().await.map(drop).map_err(|error| error.to_string())
}

fn application(settings: &Settings, fairing: JobQueueFairing) -> rocket::Rocket<rocket::Build> {
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("address", "127.0.0.1"))
        .merge(("port", settings.port));
    rocket::custom(figment).attach(fairing)
}

fn fairing(settings: &Settings) -> JobQueueFairing {
    let worker = settings.role == Role::Worker;
    let fairing = JobQueue::fairing().set("jobqueue.worker", worker);
    settings.set.iter().fold(fairing, |fairing, (key, value)| fairing.set(key, value))
}

/// Standard input ends when the harness does: nothing may outlive it.
fn end_with_the_harness() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(3);
    });
}

/// A text as the rest of a line of the ledger.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
