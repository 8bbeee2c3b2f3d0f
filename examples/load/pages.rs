//! The time that the dashboard's pages and the REST lists take beside many jobs, and the number of
//! slow Redis commands meanwhile.

use std::time::Instant;

use clap::Args;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome as Asked, Request};
use rocket_jobqueue::Draft;
use serde_json::json;

use crate::app::Noop;
use crate::growth::{put, slow, watch};
use crate::site::Site;
use crate::{Outcome, app, fill};

const BASE: &str = "/api/dm-jobqueue";

#[derive(Args)]
pub struct Options {
    /// Number of jobs: a fifth each pending, scheduled, retrying, archived and completed
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(5..))]
    jobs: u64,
    /// Number of requests per page
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// One JSON line for each page.
    #[arg(long)]
    json: bool,
}

/// Admits everybody: this is a measurement.
pub struct Anybody;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Anybody {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Asked<Self, ()> {
        Asked::Success(Self)
    }
}

pub async fn pages(options: &Options) -> Outcome<()> {
    let mut site = Site::open(None, false, 0.0).await?;
    let client = app::open_to_anybody(&site).await?;
    let queue = app::queue(&client)?;
    let part = options.jobs / 5;
    fill::bulk(&queue, part, fill::BATCH, 2, |n| Draft::new(Noop::new(n))).await?;
    fill::bulk(&queue, part, fill::BATCH, 2, fill::due_tomorrow).await?;
    for (state, ahead) in [("retry", 86_400), ("archived", 0), ("completed", 86_400)] {
        put(&mut site.connection, state, part, ahead).await?;
    }
    watch(&mut site).await?;
    let job = format!("00000000-0000-4000-8000-{:012}", part / 2);
    let paths = [
        "/ui".to_owned(),
        "/ui/queues/default".to_owned(),
        "/ui/queues/default?state=scheduled".to_owned(),
        "/ui/queues/default?state=archived&type=noop".to_owned(),
        format!("/ui/jobs/default/{job}"),
        "/ui/jobs".to_owned(),
        "/ui/jobs?q=state:archived".to_owned(),
        "/ui/jobs?q=nowhere".to_owned(),
        "/ui/failures".to_owned(),
        "/ui/scheduled".to_owned(),
        "/ui/groups".to_owned(),
        "/ui/servers".to_owned(),
        "/ui/store".to_owned(),
        "/ui/periodic".to_owned(),
        "/queues".to_owned(),
        "/queues/default/jobs?state=completed&size=100".to_owned(),
        "/queues/default/jobs?state=pending&size=100&page=100".to_owned(),
        "/metrics".to_owned(),
    ];
    if !options.json {
        println!("{:<56} {:>9} {:>9} {:>9}", "page", "first ms", "p50 ms", "max ms");
    }
    for path in paths {
        let mut took = Vec::new();
        for _ in 0..options.rounds {
            let began = Instant::now();
            let answer = client.get(format!("{BASE}{path}")).dispatch().await;
            if answer.status() != Status::Ok {
                return Err(format!("{path}: expected 200, found {}", answer.status()).into());
            }
            answer.into_bytes().await.ok_or("a body")?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let first = took[0];
        took.sort_unstable_by(f64::total_cmp);
        let (p50, max) = (took[took.len() / 2], took[took.len() - 1]);
        if options.json {
            let line = json!({
                "scenario": "pages", "jobs": options.jobs, "path": path,
                "first_ms": first, "p50_ms": p50, "max_ms": max,
            });
            println!("{line}");
        } else {
            println!("{path:<56} {first:>9.1} {p50:>9.1} {max:>9.1}");
        }
    }
    let slow = slow(&mut site).await?;
    if options.json {
        println!("{}", json!({ "scenario": "pages", "jobs": options.jobs, "slow_commands": slow }));
    } else {
        println!("commands of Redis over 10 ms: {slow}");
    }
    client.terminate().await;
    Ok(())
}
