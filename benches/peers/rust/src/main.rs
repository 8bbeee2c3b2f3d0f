//! Peers in Rust under the same load as `cargo run --example load`: one JSON line on
//! standard output. See ../README.md.

mod apalis_peer;
mod bare;
mod common;
mod scenarios;
mod sidekiq_peer;

use clap::{Parser, ValueEnum};

use common::{Options, Outcome};

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Peer {
    /// apalis-redis.
    Apalis,
    /// What Redis itself allows with Asynq's data: no retries, time limits or leases that
    /// are extended.
    Bare,
    /// rusty-sidekiq.
    Sidekiq,
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct Cli {
    #[arg(value_enum)]
    peer: Peer,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let Cli { peer, options } = Cli::parse();
    let (meter, measured) = match peer {
        Peer::Apalis => apalis_peer::run(&options).await?,
        Peer::Bare => {
            let client = redis::Client::open(options.redis.as_str())?;
            let mut redis = client.get_multiplexed_async_connection().await?;
            bare::run(&options, &mut redis).await?
        }
        Peer::Sidekiq => {
            let queue = sidekiq_peer::Sidekiq::open(&options).await?;
            scenarios::run(&options, &options.redis, queue).await?;
            std::process::exit(0)
        }
    };
    meter.end(&options, &options.redis, measured)?;
    // Workers of peers that know no end.
    std::process::exit(0)
}
