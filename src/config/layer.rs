//! The layers of the configuration.
//!
//! Each source (a file, the environment, code) may hold any of our four sections. This module
//! finds them there, checks every key against the [schema](super::schema), and merges the
//! sources key by key: a stronger source replaces a single key, not a whole table. Each value
//! keeps its origin, so that errors and warnings name the file and the full key. The sections
//! decide what the values mean.
//!
//! Values are kept flat, under keys with dots (`sentinel.addrs`), so that overlaying one source on
//! another is a merge of two maps. Each layer has a *rank*. Ranks decide where two keys contradict
//! each other, such as `addr` in one source and `url` in another: the one of the stronger source
//! wins.
//!
//! What may surprise:
//! - An empty text or list counts as absent, so a stronger layer can remove with it what a
//!   weaker one set. A key without any value is skipped and removes nothing.
//! - Rocket's figment mixes `Rocket.toml`, the environment and code. They are told apart by the
//!   metadata of each value ([`split`](super::by_source::split)), because the YAML files stand between them in strength.
//! - An unknown key never stops the launch. It may belong to a newer version that shares the file.

mod walk;

use std::iter;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Metadata, Source};

use super::by_source::{self, RocketValues};
use super::files::{self, AppEnv};
use super::schema::{Section, SectionPlace};
use super::slips::{self, Slip};
use super::value::{Leaf, Table, kind};
use super::variables;
use crate::error::Error;
use walk::{TableWalk, nearest, unknown};

/// The origin of a value, given the key of its table.
type Origin<'a> = dyn Fn(&Value, &str) -> String + 'a;

/// Selects the tables under which a kind of source has a section.
type Root = fn(&SectionPlace) -> &'static [&'static str];

const IN_ROCKET: Root = |place| place.rocket;
const IN_YAML: Root = |place| place.yaml;

/// In YAML, all sections may also be nested below this key.
const NEST: &str = "cache_server";

/// How figment names Rocket's variables.
pub(super) const ROCKET_ENV: &str = "`ROCKET_`";

/// The result of all layers added so far.
pub(super) struct Layers<'a> {
    /// The merged values of each section.
    tables: [Table; 4],
    /// Warnings so far, a line each.
    pub(super) warnings: Vec<String>,
    /// Files below this folder are shown with a relative path.
    cwd: &'a Path,
    /// The rank of the newest layer. Higher is stronger.
    rank: usize,
}

impl<'a> Layers<'a> {
    /// No layer yet: every key is absent.
    pub(super) fn new(cwd: &'a Path) -> Self {
        Self { tables: Default::default(), warnings: Vec::new(), cwd, rank: 0 }
    }

    /// The merged values of a section.
    pub(super) fn table(&self, section: Section) -> &Table {
        &self.tables[section as usize]
    }

    /// Adds the configuration that `APP_ENV=embedded` has without a folder for it. Nothing for
    /// other environments, and nothing if the application has such a folder.
    pub(super) fn add_built_in(&mut self, app_env: &AppEnv) -> Result<(), Error> {
        match app_env.built_in() {
            Some(text) => self.add_yaml("built-in config/embedded/config.yaml", text),
            None => Ok(()),
        }
    }

    /// Reads the two YAML files and returns those that exist.
    pub(super) fn add_folder(&mut self, app_env: &AppEnv) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        for (file, name) in app_env.misnamed() {
            let file = relative(&file, self.cwd);
            self.warnings.push(format!("{file} is not read; the file's name must be {name}"));
        }
        for file in app_env.files() {
            let origin = relative(&file, self.cwd);
            if let Some(text) = files::read(&file, &origin)? {
                self.add_yaml(&origin, &text)?;
                found.push(file);
            }
        }
        Ok(found)
    }

    /// Adds a YAML text as a layer, after the values nested below [`NEST`].
    fn add_yaml(&mut self, origin: &str, text: &str) -> Result<(), Error> {
        let (dict, warnings) = files::parse(text, origin)?;
        self.warnings.extend(warnings);
        let of = |_: &Value, _: &str| origin.to_owned();
        if let Some(Value::Dict(_, nested)) = dict.get(NEST) {
            self.add(IN_YAML, nested, "cache_server.", &of)?;
            self.warn_of_slips(nested, IN_YAML, "cache_server.", origin);
        }
        self.warn_of_slips(&dict, IN_YAML, "", origin);
        self.warn_of_nest(&dict, origin);
        self.add(IN_YAML, &dict, "", &of)
    }

    /// Warns of `ROCKET_*` variables that look like ours and have no effect, such as
    /// `ROCKET_JOBQUEUE_CONCURRENCY`: Rocket reads a whole table from one variable. Also warns of
    /// keys that one of ours gives twice.
    pub(super) fn warn_of_variables(
        &mut self,
        values: &[RocketValues<'_>],
        env: &dyn Fn(&str) -> Option<String>,
    ) {
        let has_app_env = env("APP_ENV").is_some();
        let unused =
            values.iter().flat_map(|values| variables::unused_rocket(&values.dict, has_app_env));
        self.warnings.extend(unused);
        self.warnings.extend(variables::repeated_keys(env));
    }

    /// Warns of tables of ours below a misspelled [`NEST`].
    fn warn_of_nest(&mut self, dict: &Dict, origin: &str) {
        for path in slips::section_paths(IN_YAML) {
            let path: Vec<&str> = iter::once(NEST).chain(path.iter().copied()).collect();
            let nest = format!("{NEST}.");
            // Below the right name they have been found already.
            let slips = slips::slips(dict, [&path[..]]);
            for Slip { found, near } in slips.iter().filter(|slip| !slip.found.starts_with(&nest)) {
                self.warnings.push(unknown(origin, "", found, near));
            }
        }
    }

    /// Adds the values that Rocket's figment has from one kind of source.
    pub(super) fn add_rocket(&mut self, values: Vec<RocketValues<'_>>) -> Result<(), Error> {
        for values in values {
            let cwd = self.cwd;
            let of = |value: &Value, root: &str| {
                origin(values.figment.get_metadata(value.tag()), root, cwd)
            };
            self.add(IN_ROCKET, &values.dict, &values.prefix, &of)?;
        }
        Ok(())
    }

    /// Adds the values given to the fairing's builder. All of them are meant for us, so every
    /// unknown key is worth a warning.
    pub(super) fn add_builder(&mut self, values: Vec<RocketValues<'_>>) -> Result<(), Error> {
        let known = Section::ALL.map(|section| section.place().rocket[0]);
        for values in &values {
            for (key, value) in values.dict.iter().filter(|(key, _)| !known.contains(&key.as_str()))
            {
                let Some(near) = nearest(key, &known) else { continue };
                let origin = origin(values.figment.get_metadata(value.tag()), key, self.cwd);
                self.warnings.push(unknown(&origin, "", key, near));
            }
        }
        self.add_rocket(values)
    }

    /// `REDIS_JOBQUEUE_ADDR`: the address and nothing else. Empty is absent.
    pub(super) fn add_address(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Error> {
        const NAME: &str = "REDIS_JOBQUEUE_ADDR";
        self.rank += 1;
        let Some(addr) = env(NAME).filter(|addr| !addr.trim().is_empty()) else { return Ok(()) };
        let leaf = Leaf {
            value: Value::from(addr),
            origin: "environment variable".to_owned(),
            path: NAME.to_owned(),
            rank: self.rank,
        };
        self.tables[Section::Connection as usize].0.insert("addr".to_owned(), leaf);
        Ok(())
    }

    /// Adds all sections of a source as one layer, stronger than all before. `prefix` stands before
    /// the keys in the source, and only messages use it.
    fn add(
        &mut self,
        root: Root,
        dict: &Dict,
        prefix: &str,
        origin: &Origin<'_>,
    ) -> Result<(), Error> {
        self.rank += 1;
        for section in Section::ALL {
            let root = root(section.place());
            let Some(value) = find(dict, root, prefix, origin)? else { continue };
            let mut walk = TableWalk {
                section,
                root: format!("{prefix}{}", root.join(".")),
                origin,
                rank: self.rank,
                table: Table::default(),
                warnings: &mut self.warnings,
            };
            walk.section("", value)?;
            let table = walk.table;
            self.tables[section as usize].overlay(table);
        }
        Ok(())
    }

    /// Warns of tables whose path is nearly, but not quite, the one of a section.
    fn warn_of_slips(&mut self, dict: &Dict, root: Root, prefix: &str, origin: &str) {
        for Slip { found, near } in slips::slips(dict, slips::section_paths(root)) {
            self.warnings.push(unknown(origin, prefix, &found, &near));
        }
    }

    /// The same for `Rocket.toml` and for values that code put into Rocket's figment. `redis.jobqueue`
    /// and `api.rate_limit` are names of the YAML files, and read nowhere else.
    pub(super) fn warn_of_rocket_slips(&mut self, values: &[RocketValues<'_>]) {
        for RocketValues { figment, prefix, dict } in values {
            let elsewhere = [Section::Connection, Section::RateLimit].map(Section::place);
            let moved = elsewhere.iter().filter_map(|place| {
                let value = find(dict, place.yaml, "", &|_, _| String::new()).ok()??;
                let (found, near) = (place.yaml.join("."), place.rocket.join("."));
                matches!(value, Value::Dict(..)).then_some(Slip { found, near })
            });
            let near = slips::slips(dict, slips::section_paths(IN_ROCKET));
            for Slip { found, near } in near.into_iter().chain(moved) {
                let above = |name: &str| found == name || found.starts_with(&format!("{name}."));
                let tag =
                    dict.iter().find(|(name, _)| above(name)).map(|(_, value)| first_tag(value));
                let metadata = tag.and_then(|tag| figment.get_metadata(tag));
                let origin = origin(metadata, &found, self.cwd);
                self.warnings.push(unknown(&origin, prefix, &found, &near));
            }
        }
    }

    /// Warns of tables of ours in `Rocket.toml` below a misspelled profile, or below none.
    pub(super) fn warn_of_profiles(
        &mut self,
        figment: &Figment,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Error> {
        let selected = figment.profile().as_str().as_str().to_owned();
        for (profile, dict) in &by_source::of_file(figment, env)? {
            let profile = profile.as_str().as_str();
            let Some(tag) = dict.values().next().map(first_tag) else { continue };
            for Slip { found, near } in slips::profile_slips(profile, dict, &[&selected]) {
                let origin = origin(figment.get_metadata(tag), &found, self.cwd);
                self.warnings.push(unknown(&origin, "", &found, &near));
            }
        }
        Ok(())
    }
}

/// The table at `root`, or whatever value is there. In `databases`, Rocket's own table,
/// and in `cacheserver.yaml`, which is ours, everything above it must be a table; elsewhere
/// another value belongs to another program and is ignored.
fn find<'a>(
    dict: &'a Dict,
    root: &[&str],
    prefix: &str,
    origin: &Origin<'_>,
) -> Result<Option<&'a Value>, Error> {
    let mut at = dict;
    for (depth, key) in root.iter().enumerate() {
        match at.get(*key) {
            Some(value) if depth + 1 == root.len() => return Ok(Some(value)),
            Some(Value::Dict(_, dict)) => at = dict,
            Some(Value::Empty(..)) | None => return Ok(None),
            Some(other) => {
                let path = format!("{prefix}{}", root[..=depth].join("."));
                let origin = origin(other, &path);
                if *key != "databases" && !origin.ends_with("cacheserver.yaml") {
                    return Ok(None);
                }
                return Err(Error::config(format!(
                    "{origin}: {path}: expected a table, found {}",
                    kind(other)
                )));
            }
        }
    }
    Ok(None)
}

/// The tag of a value, or of the first value in a table: tables themselves have none.
fn first_tag(value: &Value) -> Tag {
    match value {
        Value::Dict(tag, dict) => dict.values().next().map_or(*tag, first_tag),
        other => other.tag(),
    }
}

/// The origin of a value, as messages show it.
fn origin(metadata: Option<&Metadata>, root: &str, cwd: &Path) -> String {
    match metadata {
        Some(Metadata { source: Some(Source::File(path)), .. }) => relative(path, cwd),
        Some(metadata) if metadata.name.starts_with(ROCKET_ENV) => {
            let variable = root.split('.').next().unwrap_or(root).to_ascii_uppercase();
            format!("environment variable ROCKET_{variable}")
        }
        Some(Metadata { provide_location: Some(at), .. }) => format!("code ({at})"),
        _ => "code".to_owned(),
    }
}

/// The path relative to `cwd`, if it lies below.
fn relative(path: &Path, cwd: &Path) -> String {
    path.strip_prefix(cwd).unwrap_or(path).display().to_string()
}
