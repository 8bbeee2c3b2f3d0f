//! Warnings about environment variables that look like ours and are not read, each with the
//! right spelling. Values are not interpreted and never shown.
//!
//! Rocket reads a table from a single variable (`ROCKET_JOBQUEUE='{concurrency=4}'`), and many
//! people expect one variable a key (`ROCKET_JOBQUEUE_CONCURRENCY=4`). Without a warning such a
//! setting would have no effect and nobody would know. Variables of Kubernetes and Docker,
//! which name the address of a service, are left alone.

use figment::value::{Dict, Value};

use super::schema::{Section, ValueKind};

/// The variables that are read whole, as a table.
const READ_WHOLE: [&str; 4] = ["jobqueue", "databases", "rate_limit", "redis"];

/// Warns of `ROCKET_*`, given as figment holds them: lower-case and without that prefix.
pub(super) fn unused_rocket(variables: &Dict) -> Vec<String> {
    let mut warnings: Vec<String> = variables
        .iter()
        .filter(|(key, value)| !READ_WHOLE.contains(&key.as_str()) && !is_service(key, value))
        .filter_map(|(key, _)| {
            let name = format!("ROCKET_{}", key.to_ascii_uppercase());
            Some(unused(&name, &spelling(key)?))
        })
        .collect();
    // Tables of the YAML files that have another name in Rocket's configuration.
    for (variable, table, right) in [
        ("redis", "jobqueue", "ROCKET_DATABASES='{jobqueue={…}}'"),
        ("api", "rate_limit", "ROCKET_RATE_LIMIT='{…}'"),
    ] {
        if let Some(Value::Dict(_, dict)) = variables.get(variable)
            && dict.contains_key(table)
        {
            let name = format!("ROCKET_{}: {variable}.{table}", variable.to_ascii_uppercase());
            warnings.push(unused(&name, &format!("it is set with {right}")));
        }
    }
    warnings
}

/// Warns of variables near `REDIS_JOBQUEUE_ADDR` and `APP_ENV` among the process's own.
pub fn unused_variables(variables: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let has = |wanted: &str| variables.iter().any(|(name, _)| name == wanted);
    let mut warnings = Vec::new();
    for (name, value) in &variables {
        let upper = name.to_ascii_uppercase();
        if upper == "APP_ENVIRONMENT" && !has("APP_ENV") {
            warnings.push(unused(name, "the environment is chosen with APP_ENV"));
        }
        let key = upper.to_ascii_lowercase();
        let is_near = letters(&key).starts_with("redisjobqueue");
        if !is_near || name == "REDIS_JOBQUEUE_ADDR" || is_service(&key, &value.as_str().into()) {
            continue;
        }
        let rest = letters(&key)["redisjobqueue".len()..].to_owned();
        let right = match rest.as_str() {
            "" | "addr" | "address" | "addrs" | "addresses" | "host" | "hosts" | "port" => {
                "host and port are set with REDIS_JOBQUEUE_ADDR".to_owned()
            }
            _ => spelling(&key).unwrap_or_default(),
        };
        warnings.push(unused(name, &right));
    }
    warnings
}

/// The warning about a variable without effect, and how the key is set instead.
fn unused(name: &str, right: &str) -> String {
    format!("environment variable {name} is not used; {right}")
}

/// The key that was probably meant, and how it is set; `None` if no key is similar.
fn spelling(key: &str) -> Option<String> {
    let plain = letters(key);
    let plain = plain.strip_prefix("cacheserver").unwrap_or(&plain);
    let beginnings = Section::ALL.into_iter().flat_map(|section| {
        section.place().beginnings.iter().map(move |beginning| (*beginning, section))
    });
    // `redisdefaultcluster…` also begins with `redisdefault`.
    let (beginning, section) = beginnings
        .filter(|(beginning, _)| plain.starts_with(beginning))
        .max_by_key(|(beginning, _)| beginning.len())?;
    let (variable, tables) = section.place().variable;
    let path = meant(section, &plain[beginning.len()..]);
    let root = section.place().rocket.join(".");
    // `{jobqueue={sentinel={master=…}}}`
    let parts: Vec<&str> = tables.iter().copied().chain(path.split('.')).collect();
    let inner =
        parts.iter().rev().fold("…".to_owned(), |inner, part| format!("{{{part}={inner}}}"));
    Some(format!("{root}.{path} is set with {variable}='{inner}'"))
}

/// The known key that these letters stand for, or the one that is nearest.
fn meant(section: Section, rest: &str) -> String {
    if let Some(key) = section.keys().find(|key| letters(key.name) == rest) {
        return key.name.to_owned();
    }
    // Tables with names of the user's own.
    for key in section.keys() {
        let name = rest.strip_prefix(key.name).filter(|name| !name.is_empty());
        match (key.kind, name) {
            (ValueKind::NumberPerName, Some(name)) => return format!("{}.{name}", key.name),
            (ValueKind::TablePerName(_), Some(_)) => return format!("{}.<name>.<key>", key.name),
            _ => {}
        }
    }
    let likeness = |key: &str| strsim::normalized_damerau_levenshtein(&letters(key), rest);
    let names = section.keys().map(|key| key.name);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|key| likeness(key) > 0.5).unwrap_or("<key>").to_owned()
}

/// The name without separators.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// What Kubernetes and Docker add for a service of such a name:
/// `ROCKET_JOBQUEUE_SERVICE_HOST`, `ROCKET_JOBQUEUE_PORT_80_TCP`.
fn is_service(key: &str, value: &Value) -> bool {
    let is_url = value.as_str().is_some_and(|text| text.contains("://"));
    key.contains("_service_host")
        || key.contains("_service_port")
        || key.contains("_port_")
        || key.ends_with("_port") && is_url
}
