//! The `rate_limit` section: how many requests a client may make. The limiter counts them.
//!
//! What may surprise. The limit is off by default, and then costs nothing. Of the two limits
//! only the one per minute is always on: 0 means its default of 60, while 0 per hour means no
//! limit. With `storage_type = "auto"` a process without `redis.default.cluster` counts by
//! itself, so behind a load balancer a client may make as many requests to each process.

use ipnet::IpNet;

use super::value::{Leaf, Table};
use crate::error::Error;

/// The store that counts requests: `rate_limit.storage_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageType {
    /// In Redis if `redis.default.cluster` names one, otherwise in memory.
    #[default]
    Auto,
    /// In Redis, for all processes together.
    Redis,
    /// In this process alone.
    Memory,
}

/// The `rate_limit` section: `[<profile>.rate_limit]` in `Rocket.toml`,
/// `api.rate_limit.*` in `config.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// Whether requests are limited at all. Default `false`: the library does not know the
    /// application's capacity.
    pub enabled: bool,
    /// Maximum requests of a client per minute. Default 60, also for 0.
    pub requests_per_minute: u32,
    /// Maximum requests of a client per hour. Default 0: no limit per hour.
    pub requests_per_hour: u32,
    /// The store that counts requests. Default [`StorageType::Auto`], also for an
    /// empty text. `redis` without addresses in `redis.default.cluster` is an error.
    pub storage_type: StorageType,
    /// Requests below these paths are counted. Default `/api`; `/` covers every path.
    pub paths: Vec<String>,
    /// Paths exempt from counting although they lie below `paths`, for every method. Default
    /// `None`: GET and HEAD of the job queue's own `health`, `metrics`, `ui`, `docs` and
    /// `openapi.json`, whatever its base is.
    pub exempt: Option<Vec<String>>,
    /// Addresses or networks of proxies whose `X-Forwarded-For` or, without that header,
    /// `Forwarded: for=` is believed. Default: `jobqueue.trusted_proxies`. If both are empty, a
    /// client is the address that its connection comes from.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            requests_per_minute: 60,
            requests_per_hour: 0,
            storage_type: StorageType::Auto,
            paths: vec!["/api".to_owned()],
            exempt: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl RateLimitConfig {
    /// Reads the section. `has_addresses`: whether `redis.default.cluster` names any server.
    pub(super) fn read(table: &Table, has_addresses: bool) -> Result<Self, Error> {
        use StorageType::{Auto, Memory, Redis};
        let storage_type = match table.get("storage_type") {
            Some(leaf) => {
                let chosen = [Auto, Redis, Memory][leaf.word(&["auto", "redis", "memory"])?];
                if chosen == Redis && !has_addresses {
                    return Err(leaf.error(
                        "addresses in redis.default.cluster.addrs for storage_type redis",
                        "none",
                    ));
                }
                chosen
            }
            None => Auto,
        };
        let default = Self::default();
        Ok(Self {
            paths: table.get("paths").map(paths).transpose()?.unwrap_or(default.paths),
            exempt: table.get("exempt").map(paths).transpose()?,
            trusted_proxies: table
                .get("trusted_proxies")
                .map(Leaf::networks)
                .transpose()?
                .unwrap_or_default(),
            enabled: table.bool("enabled", false)?,
            requests_per_minute: table.number("requests_per_minute", 60)?,
            requests_per_hour: table.number("requests_per_hour", 0)?,
            storage_type,
        })
    }
}

/// A list of paths, each beginning with a slash and without a query.
fn paths(leaf: &Leaf) -> Result<Vec<String>, Error> {
    leaf.list_of("a path that begins with /", |text| {
        (text.starts_with('/') && !text.contains(['?', '#'])).then(|| text.to_owned())
    })
}
