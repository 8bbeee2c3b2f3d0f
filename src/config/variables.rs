//! Warnings about environment variables that look like ours and are not read, each with the
//! right spelling. Values are not interpreted and never shown.
//!
//! Rocket reads a table from a single variable (`ROCKET_JOBQUEUE='{concurrency=4}'`), and many
//! people expect one variable a key (`ROCKET_JOBQUEUE_CONCURRENCY=4`). Without a warning such a
//! setting would have no effect and nobody would know. Variables of Kubernetes and Docker,
//! which name the address of a service, are left alone.

use figment::value::{Dict, Value};

use super::files::ENVIRONMENTS;
use super::schema::{Section, ValueKind};
use super::slips::{self, Slip, is_near};

/// The variables that are read whole, as a table.
const READ_WHOLE: [&str; 4] = ["jobqueue", "databases", "rate_limit", "redis"];

/// Warns of `ROCKET_*`, given as figment holds them: lower-case and without that prefix.
pub(super) fn unused_rocket(variables: &Dict, has_app_env: bool) -> Vec<String> {
    let slips = slips::slips(variables, Section::ALL.map(|section| section.place().rocket));
    let of_slip = |name: &str| {
        let is_its_own = |slip: &Slip| slip.found.split('.').next() == Some(name);
        slips.iter().any(is_its_own)
    };
    let mut warnings: Vec<String> = variables
        .iter()
        .filter(|(key, value)| !READ_WHOLE.contains(&key.as_str()) && !is_service(key, value))
        .filter(|(key, _)| !of_slip(key))
        .filter_map(|(key, _)| {
            let name = format!("ROCKET_{}", key.to_ascii_uppercase());
            if ["appenv", "appenvironment"].contains(&letters(key).as_str()) {
                return (!has_app_env).then(|| unused(&name, APP_ENV_HINT));
            }
            Some(unused(&name, &spelling(key)?))
        })
        .collect();
    for Slip { found, near } in &slips {
        let variable = found.split('.').next().unwrap_or_default().to_ascii_uppercase();
        let (near, tables) = near.split_once('.').unwrap_or((near, ""));
        let example = inline_table(tables.split('.').filter(|table| !table.is_empty()));
        warnings.push(unused(
            &format!("ROCKET_{variable}: {found}"),
            &format!("it is set with ROCKET_{}='{example}'", near.to_ascii_uppercase()),
        ));
    }
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

/// Warns of keys that a variable gives twice, as `env` holds it. figment keeps the last one only.
pub(super) fn repeated_keys(env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let of = |table: &&str| {
        let name = format!("ROCKET_{}", table.to_ascii_uppercase());
        let keys = env(&name).map(|text| slips::repeated_keys(&text)).unwrap_or_default();
        keys.into_iter().map(move |key| {
            format!("environment variable {name}: {key} is given twice; the last one counts")
        })
    };
    READ_WHOLE.iter().flat_map(of).collect()
}

/// How the environment is chosen.
const APP_ENV_HINT: &str = "the environment is chosen with APP_ENV";

/// How the address is set.
const ADDRESS_HINT: &str = "host and port are set with REDIS_JOBQUEUE_ADDR";

/// Warns of variables near `REDIS_JOBQUEUE_ADDR`, `APP_ENV` and `ROCKET_JOBQUEUE` among the
/// process's own.
pub fn unused_variables(variables: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let has_app_env = variables.iter().any(|(name, _)| name == "APP_ENV");
    let is_read = |name: &str| ["APP_ENV", "REDIS_JOBQUEUE_ADDR"].contains(&name);
    variables
        .iter()
        // Those with Rocket's prefix are in its figment.
        .filter(|(name, _)| !is_read(name) && !name.to_ascii_uppercase().starts_with("ROCKET_"))
        .filter_map(|(name, value)| {
            let right = match is_app_env(name, value) {
                true => (!has_app_env).then(|| APP_ENV_HINT.to_owned()),
                false => right_variable(&name.to_ascii_lowercase(), value),
            };
            Some(unused(name, &right?))
        })
        .collect()
}

/// Whether `APP_ENV` was probably meant. A name with another letter, such as `APP_END`, is one
/// only if its value is an environment.
fn is_app_env(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ["appenv", "appenvironment"].contains(&letters(&upper.to_ascii_lowercase()).as_str())
        || strsim::damerau_levenshtein(&upper, "APP_ENV") <= 1
            && ENVIRONMENTS.contains(&value.trim())
}

/// How the key is set that this variable, in lower case, was probably meant to set; `None` if
/// the variable is an application's own. Values only tell what kind of thing they are.
fn right_variable(key: &str, value: &str) -> Option<String> {
    let plain = letters(key);
    let (is_table, value) = (value.trim_start().starts_with('{'), Value::from(value));
    if is_service(key, &value) {
        return None;
    }
    if let Some(rest) = plain.strip_prefix("redisjobqueue") {
        return match rest {
            "" | "addr" | "address" | "addrs" | "addresses" | "host" | "hosts" | "port" => {
                Some(ADDRESS_HINT.to_owned())
            }
            _ if is_near(key, "redis_jobqueue_addr") => Some(ADDRESS_HINT.to_owned()),
            _ => spelling(key),
        };
    }
    if is_near(key, "redis_jobqueue_addr") {
        return Some(ADDRESS_HINT.to_owned());
    }
    if ["databasesjobqueue", "databasejobqueue", "dbjobqueue"]
        .iter()
        .any(|to| plain.starts_with(to))
    {
        return spelling(key);
    }
    // A table in the form that Rocket reads, under nearly the right name.
    for table in READ_WHOLE.iter().filter(|_| is_table) {
        if is_near(key, &format!("rocket_{table}")) || *table == "jobqueue" && is_near(key, table) {
            return Some(format!("the nearest is ROCKET_{}", table.to_ascii_uppercase()));
        }
    }
    // `JOBQUEUE_DASHBOARD_URL` may be the application's own, `JOBQUEUE_CONCURRENCY` is hardly.
    match plain.strip_prefix("jobqueue")? {
        "addr" => Some(ADDRESS_HINT.to_owned()),
        "url" => {
            let text = value.as_str()?;
            let is_redis = ["redis", "rediss", "unix"].iter().any(|scheme| {
                text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"))
            });
            is_redis.then(|| spelling("databases_jobqueue_url"))?
        }
        rest if Section::JobQueue.keys().any(|key| is_near(rest, key.name)) => spelling(key),
        _ => None,
    }
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
    let exact = beginnings
        .clone()
        .filter(|(beginning, _)| plain.starts_with(beginning))
        .max_by_key(|(beginning, _)| beginning.len())
        .map(|(beginning, section)| (section, plain[beginning.len()..].to_owned()));
    let (section, rest) = exact.or_else(|| misspelled_beginning(key, beginnings))?;
    let (section, rest) = match connection_key(section, &rest) {
        Some(rest) => (Section::Connection, rest),
        None => (section, &*rest),
    };
    let path = meant(section, rest, key);
    let (variable, tables) = section.place().variable;
    let root = section.place().rocket.join(".");
    let tables = tables.iter().copied();
    let Some(path) = path else {
        return Some(format!("{root} is set with {variable}='{}'", inline_table(tables)));
    };
    // `{jobqueue={sentinel={master=…}}}`
    let parts: Vec<&str> = tables.chain(path.split('.')).collect();
    let inner =
        parts.iter().rev().fold("…".to_owned(), |inner, part| format!("{{{part}={inner}}}"));
    Some(format!("{root}.{path} is set with {variable}='{inner}'"))
}

/// The key of the queue's Redis that a name of the queue's own table stands for:
/// `ROCKET_JOBQUEUE_URL`, `ROCKET_JOBQUEUE_REDIS_PASSWORD`.
fn connection_key(section: Section, rest: &str) -> Option<&str> {
    let is_its_own = section.keys().any(|key| is_near(rest, key.name));
    let mut keys = Section::Connection.keys();
    let (rest, is_known) = match rest.strip_prefix("redis") {
        Some(rest) => (rest, keys.any(|key| is_near(rest, key.name))),
        None => (rest, keys.any(|key| letters(key.name) == rest)),
    };
    (section == Section::JobQueue && !is_its_own && is_known).then_some(rest)
}

/// The section of a name whose beginning is misspelled (`jobqueu_concurrency`), and what follows
/// it without separators. Only if that is nearly a key: the name may be an application's own.
fn misspelled_beginning(
    key: &str,
    beginnings: impl Iterator<Item = (&'static str, Section)> + Clone,
) -> Option<(Section, String)> {
    let parts: Vec<&str> = key.split('_').filter(|part| !part.is_empty()).collect();
    (1..parts.len()).rev().find_map(|at| {
        let (head, rest) = (letters(&parts[..at].concat()), letters(&parts[at..].concat()));
        let is_key = |section: Section| section.keys().any(|key| is_near(&rest, key.name));
        let mut known = beginnings.clone();
        let found = known.find(|(known, section)| is_near(&head, known) && is_key(*section));
        found.map(|(_, section)| (section, rest))
    })
}

/// An inline table with these tables in each other: `{default={cluster={…}}}`.
fn inline_table<'a>(tables: impl DoubleEndedIterator<Item = &'a str>) -> String {
    tables.rev().fold("{…}".to_owned(), |inner, table| format!("{{{table}={inner}}}"))
}

/// The known key that these letters stand for, or the one that is nearest; `None` if none is near.
/// `whole` is the name that they end, with its separators.
fn meant(section: Section, rest: &str, whole: &str) -> Option<String> {
    if let Some(key) = section.keys().find(|key| letters(key.name) == rest) {
        return Some(key.name.to_owned());
    }
    // Tables with names of the user's own.
    for key in section.keys() {
        let name = rest.strip_prefix(&letters(key.name)).filter(|name| !name.is_empty());
        match (key.kind, name) {
            (ValueKind::NumberPerName, Some(name)) => {
                let mut ends = whole.match_indices('_').map(|(at, _)| &whole[at + 1..]);
                let name = ends.find(|end| letters(end) == name).unwrap_or(name);
                return Some(format!("{}.{name}", key.name));
            }
            (ValueKind::TablePerName(_), Some(_)) => {
                return Some(format!("{}.<name>.<key>", key.name));
            }
            _ => {}
        }
    }
    let likeness = |key: &str| strsim::normalized_damerau_levenshtein(&letters(key), rest);
    let names = section.keys().map(|key| key.name);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|key| likeness(key) > 0.5).map(str::to_owned)
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
