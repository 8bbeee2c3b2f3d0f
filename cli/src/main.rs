//! `jobqueue`: the terminal of `rocket_jobqueue`.
//!
//! A command reaches a store (`connect`) through one trait (`store`) with two implementations,
//! `direct` and `rest`; `commands` has a file for each noun, `top` the full-screen view. `output`
//! prints, `text` makes foreign text safe, `confirm` asks before a change, and `failure` is what a
//! command ends with. `docs/terminal.md` is the manual.

mod args;
mod commands;
mod confirm;
mod connect;
mod direct;
mod failure;
mod output;
mod rest;
mod store;
mod text;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use failure::{Exit, Failure, Outcome};
use output::Output;

fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and the version too, which end with 0.
        Err(problem) => {
            let _ = problem.print();
            return ExitCode::from(u8::try_from(problem.exit_code()).unwrap_or(2));
        }
    };
    // Before there are threads, since the folder belongs to the process.
    if let Err(failure) = prepare(&mut cli) {
        return failure.end();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli));
            // A request that still waits must not hold the terminal.
            runtime.shutdown_timeout(std::time::Duration::from_millis(200));
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(),
    }
}

fn prepare(cli: &mut Cli) -> Outcome {
    cli.connect.absolute()?;
    match &mut cli.command {
        Command::Export { file, .. } | Command::Import { file, .. } if file.as_os_str() != "-" => {
            *file = std::path::absolute(&file)?;
        }
        Command::Job(args::JobCommand::Edit { payload, .. })
        | Command::Job(args::JobCommand::Enqueue { payload, .. }) => {
            if let Some(file) = payload.file.as_mut().filter(|file| file.as_os_str() != "-") {
                *file = std::path::absolute(&file)?;
            }
        }
        _ => {}
    }
    cli.connect.enter()
}

async fn run(cli: Cli) -> Outcome {
    let (connect, output) = (cli.connect, Output::new(cli.json));
    match cli.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "jobqueue", &mut script);
            output.line(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Man => {
            let mut page = Vec::new();
            commands::man::write(&Cli::command(), &mut page)?;
            output.line(String::from_utf8_lossy(&page).trim_end())
        }
        Command::Export { file, while_running, dry_run } => {
            commands::transfer::export(&connect, &output, &file, while_running, dry_run).await
        }
        Command::Import { file, while_running, change } => {
            commands::transfer::import(&connect, &output, &file, while_running, change).await
        }
        command => {
            let store = connect.store().await?;
            match command {
                Command::Queue(command) => commands::queue::run(&store, &output, command).await,
                Command::Job(command) => commands::job::run(&store, &output, command).await,
                Command::Periodic(command) => {
                    commands::periodic::run(&store, &output, command).await
                }
                Command::Worker(command) => commands::worker::run(&store, &output, command).await,
                Command::Alerts => commands::alerts::run(&store, &output).await,
                Command::Stats => commands::stats::run(&store, &output).await,
                Command::Top { interval } => top::run(&store, &output, interval).await,
                Command::Watch(watch) => commands::watch::run(&store, &output, watch).await,
                Command::Doctor { repair, change } => {
                    commands::doctor::run(&store, &output, repair, change).await
                }
                Command::Completion { .. }
                | Command::Man
                | Command::Export { .. }
                | Command::Import { .. } => {
                    Err(Failure::new(Exit::Failed, "this command has no store"))
                }
            }
        }
    }
}
