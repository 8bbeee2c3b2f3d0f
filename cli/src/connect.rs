//! Which store a command means. Exactly one way counts; credentials never stand on the command line,
//! where everybody on the machine can read them.
//!
//! | way | where |
//! | --- | --- |
//! | a Redis by URL | `--url`, without a password; or `--url-file`, or `JOBQUEUE_URL` |
//! | a folder on disk that no process has open | `--disk` |
//! | an application's REST interface | `--api` or `JOBQUEUE_API`; the token in `JOBQUEUE_TOKEN` or `--token-file` |
//! | as the application is configured | otherwise; `--config` names its folder, `--profile` its profile |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rocket::figment::Figment;
use rocket_jobqueue::Client;
use rocket_jobqueue::settings::{AlertSettings, JobQueueConfig};
use rocket_jobqueue::transfer::Transfer;

use crate::direct::Direct;
use crate::failure::{Failure, Outcome};
use crate::rest::Rest;
use crate::store::Store;

/// The options of all commands about the store.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which store")]
pub(crate) struct Connect {
    /// A Redis, such as redis://localhost:6379/0. With a password: JOBQUEUE_URL or --url-file
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// A file whose only line is the URL of a Redis
    #[arg(long, global = true, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// The folder of a store on disk, while no process has it open
    #[arg(long, global = true, value_name = "FOLDER")]
    disk: Option<PathBuf>,
    /// An application's REST interface, such as https://app.example; its token is in JOBQUEUE_TOKEN
    #[arg(long, global = true, value_name = "URL")]
    api: Option<String>,
    /// A file whose only line is the token for --api
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The folder of the application's configuration: Rocket.toml, config/ (default: here)
    #[arg(long, global = true, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// The profile of Rocket.toml (default: as the application: ROCKET_PROFILE, or debug or release)
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
}

/// The way that was named.
enum Way {
    Url(String),
    Disk(PathBuf),
    Api(String, Option<String>),
    Configured(Option<String>),
}

impl Connect {
    /// Makes `--config` the current folder, so that configuration is found as the application finds
    /// it. Paths of the command line that are files were made absolute before.
    pub fn enter(&self) -> Outcome {
        let Some(folder) = &self.config else { return Ok(()) };
        std::env::set_current_dir(folder).map_err(|error| {
            Failure::usage(format!(
                "--config: expected a folder, found {}: {error}",
                folder.display()
            ))
        })
    }

    /// Makes the paths of files absolute, since [`enter`](Self::enter) changes the folder.
    pub fn absolute(&mut self) -> Outcome {
        for path in [&mut self.url_file, &mut self.disk, &mut self.token_file].into_iter().flatten()
        {
            *path = std::path::absolute(&path)?;
        }
        Ok(())
    }

    fn way(&self) -> Outcome<Way> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = [
            ("--url", self.url.is_some()),
            ("--url-file", self.url_file.is_some()),
            ("--disk", self.disk.is_some()),
            ("--api", self.api.is_some()),
            ("--config", self.config.is_some()),
        ];
        let named: Vec<&str> =
            named.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
        if named.len() > 1 {
            let found = named.join(" and ");
            return Err(Failure::usage(format!("expected one store, found {found}")));
        }
        if let Some(url) = &self.url {
            return without_password(url).map(Way::Url);
        }
        if let Some(file) = &self.url_file {
            return Ok(Way::Url(line_of(file, "--url-file")?));
        }
        if let Some(folder) = &self.disk {
            return Ok(Way::Disk(folder.clone()));
        }
        let api = |url: String| Ok(Way::Api(url, self.token()?));
        if let Some(url) = &self.api {
            return api(url.clone());
        }
        if self.config.is_none() {
            match (variable("JOBQUEUE_URL"), variable("JOBQUEUE_API")) {
                (Some(_), Some(_)) => {
                    let found = "found JOBQUEUE_URL and JOBQUEUE_API";
                    return Err(Failure::usage(format!("expected one store, {found}")));
                }
                (Some(url), None) => return Ok(Way::Url(url)),
                (None, Some(url)) => return api(url),
                (None, None) => {}
            }
        }
        Ok(Way::Configured(self.profile.clone()))
    }

    /// The token for REST: the file's line, or the variable.
    fn token(&self) -> Outcome<Option<String>> {
        match &self.token_file {
            Some(file) => line_of(file, "--token-file").map(Some),
            None => Ok(std::env::var("JOBQUEUE_TOKEN").ok().filter(|token| !token.is_empty())),
        }
    }

    /// The store. Redis and REST are connected by the first question.
    pub async fn store(&self) -> Outcome<Arc<dyn Store>> {
        let mut thresholds = AlertSettings::default();
        let client = match self.way()? {
            Way::Api(url, token) => return Ok(Arc::new(Rest::new(&url, token)?)),
            Way::Url(url) => Client::redis(&url)?,
            Way::Disk(folder) => Client::disk(folder).await?,
            Way::Configured(profile) => {
                let figment = configuration(profile);
                thresholds = JobQueueConfig::from_figment(&figment)?.alerts;
                Client::open(&figment).await?
            }
        };
        Ok(Arc::new(Direct::new(client, thresholds)))
    }

    /// The store to move from or to.
    pub async fn transfer(&self) -> Outcome<Transfer> {
        match self.way()? {
            Way::Api(..) => Err(Failure::usage(
                "export and import: expected a store that is opened directly, found --api; stop the \
                 application and name its Redis or folder",
            )),
            Way::Url(url) => Ok(Transfer::redis(&url)?),
            Way::Disk(folder) => Ok(Transfer::disk(folder).await?),
            Way::Configured(profile) => Ok(Transfer::from_figment(&configuration(profile)).await?),
        }
    }
}

/// What the application reads in this folder.
fn configuration(profile: Option<String>) -> Figment {
    let figment = rocket::Config::figment();
    match profile {
        Some(profile) => figment.select(profile),
        None => figment,
    }
}

/// # Errors
/// The URL has a password.
fn without_password(url: &str) -> Outcome<String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => Err(Failure::usage(
            "--url: expected no password, found one, which others on this machine can see; put the \
             URL into JOBQUEUE_URL or a file (--url-file)",
        )),
        _ => Ok(url.to_owned()),
    }
}

/// The only line of a file.
fn line_of(path: &Path, option: &str) -> Outcome<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{option}: {}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(Failure::usage(format!(
            "{option}: {}: expected a line, found none",
            path.display()
        ))),
        line if line.lines().count() > 1 => Err(Failure::usage(format!(
            "{option}: {}: expected one line, found several",
            path.display()
        ))),
        line => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for url in ["redis://u:secret@h:1/0", "redis://:secret@h", "rediss://:se@cret@h/1"] {
            let failure = without_password(url).unwrap_err();
            assert!(!failure.message.contains("cret"), "{}", failure.message);
        }
        for url in ["redis://h:1/0", "redis://user@h:1", "h:1"] {
            assert_eq!(without_password(url).unwrap(), url);
        }
    }
}
