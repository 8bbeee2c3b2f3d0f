//! The values of Rocket's figment, sorted by the kind of source they come from.

use figment::value::{Dict, Map, Value};
use figment::{Figment, Profile, Provider};

use super::files::RocketToml;
use super::layer::ROCKET_ENV;
use crate::error::Error;

/// What one profile of a figment holds of one sort of source.
pub(super) struct RocketValues<'a> {
    pub(super) figment: &'a Figment,
    /// What stands before the key in the source: the profile, in a file.
    pub(super) prefix: String,
    pub(super) dict: Dict,
}

/// Rocket's values by source, each from the weakest profile to the strongest.
pub(super) struct Split<'a> {
    pub(super) toml: Vec<RocketValues<'a>>,
    pub(super) env: Vec<RocketValues<'a>>,
    pub(super) code: Vec<RocketValues<'a>>,
}

/// The kinds of sources of Rocket's figment. Rocket mixes them; here they are layers of
/// different strength.
#[derive(Clone, Copy, PartialEq)]
enum Sort {
    Toml,
    Env,
    Code,
}

/// Groups Rocket's values by source. Whatever is not from `Rocket.toml` or `ROCKET_*` was set
/// by code.
pub(super) fn split<'a>(
    figment: &'a Figment,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Split<'a>, Error> {
    let toml = RocketToml::new(env);
    let sort = |value: &Value| match figment.get_metadata(value.tag()) {
        Some(metadata) if toml.is(metadata) => Sort::Toml,
        Some(metadata) if metadata.name.starts_with(ROCKET_ENV) => Sort::Env,
        _ => Sort::Code,
    };
    let of = |wanted: Sort| values(figment, wanted == Sort::Toml, &|leaf| sort(leaf) == wanted);
    Ok(Split { toml: of(Sort::Toml)?, env: of(Sort::Env)?, code: of(Sort::Code)? })
}

/// All values of the figment, as set in code. For the builder's figment, which has no other
/// source.
pub(super) fn all_code(figment: &Figment) -> Result<Vec<RocketValues<'_>>, Error> {
    values(figment, false, &|_| true)
}

/// All values of `Rocket.toml`, by profile, also of profiles that are not in use.
pub(super) fn of_file(
    figment: &Figment,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Map<Profile, Dict>, Error> {
    let toml = RocketToml::new(env);
    let is_toml =
        |value: &Value| figment.get_metadata(value.tag()).is_some_and(|from| toml.is(from));
    let all = data(figment)?;
    Ok(all.into_iter().map(|(profile, dict)| (profile, picked(&dict, &is_toml))).collect())
}

/// All values of a figment, by profile. An error does not quote the file: figment's message may
/// repeat its lines, hence credentials.
fn data(figment: &Figment) -> Result<Map<Profile, Dict>, Error> {
    figment
        .data()
        .map_err(|_| Error::config("Rocket's configuration cannot be read: see Rocket's message"))
}

/// The picked values of a figment, by profile.
fn values<'a>(
    figment: &'a Figment,
    is_file: bool,
    pick: &dyn Fn(&Value) -> bool,
) -> Result<Vec<RocketValues<'a>>, Error> {
    let data = data(figment)?;
    let mut profiles = vec![Profile::Default, figment.profile().clone(), Profile::Global];
    profiles.dedup();
    let values = profiles.into_iter().filter_map(|profile| {
        let dict = picked(data.get(&profile)?, pick);
        let prefix = if is_file { format!("{profile}.") } else { String::new() };
        Some(RocketValues { figment, prefix, dict })
    });
    Ok(values.collect())
}

/// The values for which `pick` is true, with the tables above them. A table without any is left
/// out.
fn picked(dict: &Dict, pick: &dyn Fn(&Value) -> bool) -> Dict {
    let keep = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::Dict(tag, dict) => {
                let dict = picked(dict, pick);
                (!dict.is_empty()).then_some(Value::Dict(*tag, dict))
            }
            leaf => pick(leaf).then(|| leaf.clone()),
        };
        value.map(|value| (key.clone(), value))
    };
    dict.iter().filter_map(keep).collect()
}
