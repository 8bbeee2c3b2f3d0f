//! Finds the YAML files and reads them into plain values.
//!
//! The files of an environment are `cacheserver.yaml` and `config.yaml` in `config/{APP_ENV}`. The
//! folder `config` is searched where Rocket found `Rocket.toml`, or else where it looks for it: the
//! current folder and those above. A missing file is fine, an unreadable one is an error. The
//! layers decide which keys count.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};
use figment::{Figment, Metadata, Source};

use super::value::{kind, quoted};
use super::yaml::parse_yaml;
use crate::error::Error;

/// The names of `APP_ENV` that need no folder.
pub(super) const ENVIRONMENTS: [&str; 4] = ["develop", "staging", "production", "embedded"];

/// The files of an environment, weaker first.
const FILE_NAMES: [&str; 2] = ["cacheserver.yaml", "config.yaml"];

/// The shipped file, so that `APP_ENV=embedded` works in every application.
const EMBEDDED_CONFIG: &str = include_str!("../../config/embedded/config.yaml");

/// Rocket's own file: `Rocket.toml`, or the file that `ROCKET_CONFIG` names.
pub(super) struct RocketToml(PathBuf);

impl RocketToml {
    pub(super) fn new(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let named = env("ROCKET_CONFIG").filter(|path| !path.is_empty());
        Self(PathBuf::from(named.unwrap_or_else(|| "Rocket.toml".to_owned())))
    }

    /// Whether these values come from this file.
    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        self.path_in(metadata).is_some()
    }

    /// The path of the file, if these values come from it.
    fn path_in<'a>(&self, metadata: &'a Metadata) -> Option<&'a Path> {
        let path = metadata.source.as_ref().and_then(Source::file_path)?;
        let is_toml = metadata.name.starts_with("TOML");
        (is_toml && path.file_name() == self.0.file_name()).then_some(path)
    }

    /// The folder that relative paths begin in: the file's own, or the current one.
    pub(super) fn base(&self, rocket: &Figment, cwd: &Path) -> PathBuf {
        let found = rocket.metadata().find_map(|metadata| self.path_in(metadata));
        let folder = found.and_then(Path::parent).unwrap_or(cwd);
        cwd.join(folder)
    }

    /// The folders in which `config/` may lie: the file's own, or all in which
    /// Rocket looked for it.
    fn folders(&self, rocket: &Figment, cwd: &Path) -> Vec<PathBuf> {
        let found = rocket.metadata().find_map(|metadata| self.path_in(metadata));
        let parent = |path: &Path| path.parent().map(Path::to_path_buf);
        match found {
            Some(path) => parent(path).into_iter().collect(),
            // An absolute path replaces the folder it is joined to.
            None => cwd.ancestors().filter_map(|folder| parent(&folder.join(&self.0))).collect(),
        }
    }
}

/// The environment the process runs in, and its folder.
pub(super) struct AppEnv {
    /// The value of `APP_ENV`.
    pub(super) word: String,
    /// `config/{word}`, if it exists.
    folder: Option<PathBuf>,
}

impl AppEnv {
    /// Reads `APP_ENV` and finds its folder.
    ///
    /// # Errors
    /// [`Error::is_config`] for a name that is neither known nor a folder.
    pub(super) fn find(
        rocket: &Figment,
        env: &dyn Fn(&str) -> Option<String>,
        cwd: &Path,
    ) -> Result<Self, Error> {
        let given = env("APP_ENV").map(|word| word.trim().to_owned());
        let word = given.filter(|word| !word.is_empty()).unwrap_or_else(|| "develop".to_owned());
        // It becomes a part of a path.
        let is_word = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let mut folders = RocketToml::new(env).folders(rocket, cwd).into_iter();
        let folder = folders
            .find_map(|folder| Some(folder.join("config").join(&word)).filter(|dir| dir.is_dir()))
            .filter(|_| is_word);
        if folder.is_none() && !ENVIRONMENTS.contains(&word.as_str()) {
            return Err(Error::config(format!(
                "environment variable: APP_ENV: expected {} or a folder below config, found {}",
                ENVIRONMENTS.join(", "),
                quoted(&word),
            )));
        }
        Ok(Self { word, folder })
    }

    /// The configuration that holds if the application has no folder for the environment.
    pub(super) fn built_in(&self) -> Option<&'static str> {
        (self.word == "embedded" && self.folder.is_none()).then_some(EMBEDDED_CONFIG)
    }

    /// The two files, weaker first, whether or not they exist.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.folder.iter().flat_map(|folder| FILE_NAMES.map(|name| folder.join(name))).collect()
    }

    /// Files beside them that were probably meant to be one of them, with its name.
    ///
    /// `config` is a name that applications use for files of their own, so such a file
    /// counts only if it mentions a table of ours.
    pub(super) fn misnamed(&self) -> Vec<(PathBuf, &'static str)> {
        let entries = self.folder.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let path = entry.path();
                let name = path.file_name()?.to_str()?.to_ascii_lowercase();
                let (stem, extension) = name.split_once('.')?;
                if FILE_NAMES.contains(&path.file_name()?.to_str()?)
                    || !["yml", "yaml", "yaml.yaml", "yml.yml", "json", "toml"].contains(&extension)
                {
                    return None;
                }
                match stem {
                    "cacheserver" | "cache_server" | "cache-server" => Some((path, FILE_NAMES[0])),
                    "config" if mentions_our_tables(&path) => Some((path, FILE_NAMES[1])),
                    _ => None,
                }
            })
            .collect();
        found.sort();
        found
    }
}

/// Maximum size in bytes of a file that is searched for our tables.
const MAX_SEARCHED_BYTES: u64 = 1 << 20;

/// Whether the file contains the name of a table that only our configuration uses, or both names of
/// the rate limit's, `api.rate_limit`.
fn mentions_our_tables(file: &Path) -> bool {
    let is_small =
        file.metadata().is_ok_and(|file| file.is_file() && file.len() <= MAX_SEARCHED_BYTES);
    let Some(text) = is_small.then(|| std::fs::read_to_string(file).ok()).flatten() else {
        return false;
    };
    let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let has = |word: &str| text.split(|c: char| !is_part_of_name(c)).any(|name| name == word);
    has("jobqueue") || has("cache_server") || (has("api") && has("rate_limit"))
}

/// The file's text, or `None` if there is no such file.
///
/// # Errors
/// A file that exists and cannot be read, or that is not UTF-8. Going on without it would mean
/// to run with other settings than the operator wrote.
pub(super) fn read(file: &Path, origin: &str) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::config(format!("{origin}: expected a readable file, found {error}")))
        }
    }
}

/// The file's table and its warnings. A file without values gives an empty table.
pub(super) fn parse(text: &str, origin: &str) -> Result<(Dict, Vec<String>), Error> {
    let document = parse_yaml(text)
        .map_err(|found| Error::config(format!("{origin}: expected YAML, found: {found}")))?;
    let dict = match document.value {
        Value::Empty(..) => Dict::new(),
        Value::Dict(_, dict) => dict,
        other => {
            let found = kind(&other);
            return Err(Error::config(format!("{origin}: expected a table, found {found}")));
        }
    };
    let at_origin = |warning| format!("{origin}: {warning}");
    Ok((dict, document.warnings.into_iter().map(at_origin).collect()))
}
