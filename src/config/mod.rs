//! The configuration: defaults, files, environment variables and code, merged into one
//! checked [`Config`]. This module neither connects nor logs: warnings are returned.
//!
//! A value passes through these steps. [`files`] finds and parses the YAML files. [`layer`] takes
//! our sections out of each source and merges them key by key; [`schema`] knows every key, so that
//! unknown ones give a warning. [`value`] converts single values. The sections themselves
//! ([`jobqueue`], [`connection`], [`rate_limit`], [`periodic`], [`limits`], [`alerts`]) check bounds and apply defaults.
//!
//! What may surprise. A wrong value is an error and stops the launch; an unknown key is only a
//! warning, with the key that was probably meant. Secrets never appear in either. A number or
//! duration of 0 often means the default: each field says so.
//!
//! Why four kinds of sources. Rocket's own (`Rocket.toml`, `ROCKET_*`) is what a Rocket user
//! expects. The YAML files are for applications that keep a folder for each environment.
//! `REDIS_JOBQUEUE_ADDR` is what a container sets. The builder is for tests and for what code
//! knows better. All of them are merged before a section is read, so a value that a stronger
//! source replaces is not checked and cannot stop the launch.

mod alerts;
mod by_source;
mod connection;
mod files;
mod jobqueue;
mod layer;
mod limits;
mod periodic;
mod rate_limit;
mod schema;
mod slips;
mod value;
mod variables;
mod yaml;

use std::path::{Path, PathBuf};

use figment::{Figment, Profile};

pub use self::jobqueue::{JobQueueConfig, OnSuccessFailure, Store};
pub use self::limits::QueueLimit;
pub use self::rate_limit::{RateLimitConfig, StorageType};
pub use self::schema::{ConfigKey, Section, ValueKind};
pub use self::variables::unused_variables;
pub use self::yaml::{YamlDocument, parse_yaml};

use self::layer::Layers;
use self::value::Table;
use crate::error::Error;
use crate::pool::PoolSettings;

/// Everything that can be configured, after all layers and checked.
///
/// The layers, weakest first: defaults, `Rocket.toml`, `cacheserver.yaml` and
/// `config.yaml` in `config/{APP_ENV}`, `ROCKET_*`, `REDIS_JOBQUEUE_ADDR`, values
/// that code put into Rocket's figment, the fairing's builder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What this process does with the queue.
    pub jobqueue: JobQueueConfig,
    /// The job queue's Redis: `databases.jobqueue` or `redis.jobqueue`. Ignored
    /// with [`Store::Memory`].
    pub redis: PoolSettings,
    /// The application's other Redis, `redis.default.cluster`, which the rate limit uses. `None`
    /// without an address. One address is treated as one server and several as a Cluster,
    /// without asking the servers.
    pub redis_default: Option<PoolSettings>,
    /// How many requests a client may make.
    pub rate_limit: RateLimitConfig,
    /// The value of `APP_ENV`: `develop`, `staging`, `production`, `embedded` or the name of a
    /// folder below `config`; anything else is an error. Default `develop`.
    pub app_env: String,
    /// The YAML files that were read, in order.
    pub files: Vec<PathBuf>,
    /// Whether this is development: Rocket's profile is `debug`, in a build with debug
    /// assertions. All other profiles have the defaults of production.
    pub development: bool,
    /// Lines to log at launch: unknown keys, files and variables, each with what was
    /// probably meant.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads all layers and checks them.
    ///
    /// `rocket` is Rocket's figment, `code` the values given to the fairing's builder,
    /// under the same keys (`jobqueue.concurrency`, `databases.jobqueue.url` …).
    /// `env` answers for environment variables, see [`process_env`]; `cwd` is the
    /// folder in which the search for `config/` begins, as Rocket's for
    /// `Rocket.toml` does.
    ///
    /// # Errors
    /// [`Error::is_config`] with the file or variable, the key's full path, what
    /// was expected and what was found.
    pub fn load(
        rocket: &Figment,
        code: &Figment,
        env: &dyn Fn(&str) -> Option<String>,
        cwd: &Path,
    ) -> Result<Self, Error> {
        Self::load_sections(&Section::ALL, rocket, code, env, cwd)
    }

    /// The same for a reader that needs these sections only: a wrong one of the others is replaced
    /// by its defaults. Two fairings of an application read the same files but have builders of
    /// their own, so a section that lacks a value here may be complete in the other one.
    ///
    /// # Errors
    /// As of [`load`](Self::load). A store in memory is refused to a reader of both
    /// [`Section::JobQueue`] and [`Section::Connection`]: the queue itself.
    pub(crate) fn load_sections(
        needed: &[Section],
        rocket: &Figment,
        code: &Figment,
        env: &dyn Fn(&str) -> Option<String>,
        cwd: &Path,
    ) -> Result<Self, Error> {
        let app_env = files::AppEnv::find(rocket, env, cwd)?;
        let mut layers = Layers::new(cwd);
        layers.add_built_in(&app_env)?;
        let rocket_values = by_source::split(rocket, env)?;
        layers.warn_of_rocket_slips(&rocket_values.toml);
        layers.warn_of_profiles(rocket, env)?;
        layers.add_rocket(rocket_values.toml)?;
        let files = layers.add_folder(&app_env)?;
        layers.warn_of_variables(&rocket_values.env, env);
        layers.add_rocket(rocket_values.env)?;
        layers.add_address(env)?;
        layers.warn_of_rocket_slips(&rocket_values.code);
        layers.add_rocket(rocket_values.code)?;
        layers.add_builder(by_source::all_code(code)?)?;

        let of = |section| (layers.table(section), needed.contains(&section));
        let redis_default = read(of(Section::Default), connection::read_default)?;
        let mut jobqueue = read(of(Section::JobQueue), JobQueueConfig::read)?;
        let base = files::RocketToml::new(env).base(rocket, cwd);
        jobqueue.path = base.join(&jobqueue.path);
        let mut rate_limit = read(of(Section::RateLimit), |table| {
            RateLimitConfig::read(table, redis_default.is_some())
        })?;
        if rate_limit.trusted_proxies.is_empty() {
            rate_limit.trusted_proxies.clone_from(&jobqueue.trusted_proxies);
        }
        let config = Self {
            jobqueue,
            redis: read(of(Section::Connection), connection::read)?,
            redis_default,
            rate_limit,
            app_env: app_env.word,
            files,
            development: is_development(rocket.profile(), cfg!(debug_assertions)),
            warnings: layers.warnings,
        };
        if [Section::JobQueue, Section::Connection].iter().all(|part| needed.contains(part)) {
            config.refuse_memory_in_production(rocket.profile())?;
        }
        Ok(config)
    }

    /// The Redis that counts requests; `None` if this process counts them in memory.
    pub fn rate_limit_redis(&self) -> Option<&PoolSettings> {
        match self.rate_limit.storage_type {
            StorageType::Memory => None,
            StorageType::Auto | StorageType::Redis => self.redis_default.as_ref(),
        }
    }

    /// An error for a store in memory outside of development, unless it is permitted. A
    /// production that forgets to set the store would otherwise run well until its first
    /// restart.
    fn refuse_memory_in_production(&self, profile: &Profile) -> Result<(), Error> {
        let memory = self.jobqueue.store == Store::Memory;
        if memory && !self.development && !self.jobqueue.allow_memory_in_release {
            return Err(Error::config(format!(
                "jobqueue.store: expected redis or disk in Rocket's profile {:?}{}, found memory, \
                 which loses all jobs with the process; jobqueue.allow_memory_in_release = true \
                 permits it",
                profile.as_str().as_str(),
                if cfg!(debug_assertions) { "" } else { " of a build without debug assertions" },
            )));
        }
        Ok(())
    }
}

/// Reads a section. Without need for it, its defaults replace a wrong one.
fn read<T: Default>(
    (table, is_needed): (&Table, bool),
    read: impl FnOnce(&Table) -> Result<T, Error>,
) -> Result<T, Error> {
    match read(table) {
        Err(_) if !is_needed => Ok(T::default()),
        read => read,
    }
}

/// Only `debug`, and only in a debug build: `ROCKET_PROFILE` can be any name, and names other
/// than `release` may mean production.
fn is_development(profile: &Profile, debug_assertions: bool) -> bool {
    profile == "debug" && debug_assertions
}

/// The process's own environment variable, for [`Config::load`]. Tests pass a map instead,
/// since the environment of a process cannot be changed safely while threads run.
pub fn process_env(name: &str) -> Option<String> {
    // Lossy, so that a value that is not UTF-8 is refused rather than overlooked.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_debug_profile_of_a_debug_build_is_development() {
        for (profile, debug_assertions, expected) in [
            ("debug", true, true),
            ("Debug", true, true),
            ("debug", false, false),
            ("release", true, false),
            ("production", true, false),
            ("staging", true, false),
            ("default", true, false),
            ("global", true, false),
            ("debugging", true, false),
        ] {
            let found = is_development(&Profile::new(profile), debug_assertions);
            assert_eq!(found, expected, "{profile} {debug_assertions}");
        }
    }
}
