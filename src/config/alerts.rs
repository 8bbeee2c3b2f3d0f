//! The thresholds of `jobqueue.alerts`: `off` switches a rule off.

use std::time::Duration;

use super::value::{Leaf, Table, shown};
use crate::error::Error;
use crate::inspector::AlertSettings;

/// Reads all thresholds.
///
/// # Errors
/// The first wrong value, with its file and key.
pub(super) fn read(table: &Table) -> Result<AlertSettings, Error> {
    let mut settings = AlertSettings::default();
    let get = |rule: &str| table.get(&format!("alerts.{rule}"));
    for (rule, percent) in
        [("failure_rate", &mut settings.failure_rate), ("store_memory", &mut settings.store_memory)]
    {
        if let Some(leaf) = get(rule) {
            *percent = unless_off(leaf, percent_of)?;
        }
    }
    if let Some(leaf) = get("failure_rate_attempts") {
        settings.failure_rate_attempts = leaf.number(1, u32::MAX)?;
    }
    for (rule, length) in [
        ("queue_paused", &mut settings.queue_paused),
        ("job_running", &mut settings.job_running),
        ("periodic_missed", &mut settings.periodic_missed),
        ("no_worker", &mut settings.no_worker),
        ("oldest_pending", &mut settings.oldest_pending),
        ("workers_full", &mut settings.workers_full),
        ("limit_full", &mut settings.limit_full),
    ] {
        if let Some(leaf) = get(rule) {
            *length = unless_off(leaf, duration)?;
        }
    }
    if let Some(leaf) = get("archived_growing") {
        settings.archived_growing = unless_off(leaf, |leaf| leaf.number(1, u32::MAX))?;
    }
    for (rule, is_on) in [
        ("store_evicting", &mut settings.store_evicting),
        ("store_settings", &mut settings.store_settings),
        ("queue_unreadable", &mut settings.queue_unreadable),
    ] {
        if let Some(leaf) = get(rule) {
            *is_on = unless_off(leaf, on)?.is_some();
        }
    }
    Ok(settings)
}

/// The value, or `None` for `off` and `false`.
fn unless_off<T>(
    leaf: &Leaf,
    read: impl FnOnce(&Leaf) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    match shown(&leaf.value).as_str() {
        "\"off\"" | "false" => Ok(None),
        _ => read(leaf).map(Some),
    }
}

/// A duration, 0 included: at once.
fn duration(leaf: &Leaf) -> Result<Duration, Error> {
    leaf.duration().map_err(|_| {
        leaf.error("a duration with its unit such as 10m, or off", &shown(&leaf.value))
    })
}

/// A share such as `25%`.
fn percent_of(leaf: &Leaf) -> Result<u32, Error> {
    let expected = "a share from 1% to 100%, or off";
    let wrong = || leaf.error(expected, &shown(&leaf.value));
    let text = leaf.text(expected)?.trim();
    let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    number.filter(|number| (1..=100).contains(number)).ok_or_else(wrong)
}

/// `on` or `true`.
fn on(leaf: &Leaf) -> Result<(), Error> {
    match shown(&leaf.value).as_str() {
        "\"on\"" | "true" => Ok(()),
        found => Err(leaf.error("on or off", found)),
    }
}
