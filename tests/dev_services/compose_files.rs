//! The compose files, as compose itself understands them.

use super::*;
use pretty::same;

/// The file as compose itself understands it, in one form for compose 1 and 2.
fn resolved(file: &str, env: &[(&str, &str)]) -> Value {
    let output = Command::new(tool("docker-compose", "docker-compose"))
        .args(["-p", "test", "-f"])
        .arg(root().join(file))
        .arg("config")
        .env_remove("RI_REDIS_HOST")
        .env_remove("RI_REDIS_PORT")
        .env_remove("RI_REDIS_ALIAS")
        .env_remove("RI_REDIS_USERNAME")
        .env_remove("RI_REDIS_PASSWORD")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file} is refused: {shown}");
    assert!(!shown.contains("obsolete"), "{file}: {shown}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut value: Value = parse_yaml(&text).unwrap().value.deserialize().unwrap();
    // Added by compose itself.
    value.as_object_mut().unwrap().retain(|key, _| key != "version" && key != "name");
    for service in value["services"].as_object_mut().unwrap().values_mut() {
        one_form(service);
    }
    value
}

fn one_form(service: &mut Value) {
    let fields = service.as_object_mut().unwrap();
    fields.retain(|_, value| !value.is_null());
    let each = |fields: &mut serde_json::Map<String, Value>, key: &str, f: fn(&Value) -> String| {
        if let Some(Value::Array(items)) = fields.get_mut(key) {
            items.iter_mut().for_each(|item| *item = Value::String(f(item)));
        }
    };
    each(fields, "ports", |port| match port {
        Value::String(port) => port.trim_end_matches("/tcp").to_owned(),
        port => {
            let ports = format!("{}:{}", word(&port["published"]), word(&port["target"]));
            port["host_ip"].as_str().map_or(ports.clone(), |ip| format!("{ip}:{ports}"))
        }
    });
    each(fields, "volumes", |volume| {
        let volume = match volume {
            Value::String(volume) => volume.trim_end_matches(":rw").to_owned(),
            volume => format!("{}:{}", word(&volume["source"]), word(&volume["target"])),
        };
        volume.replace(root().to_str().unwrap(), ".")
    });
    each(fields, "extra_hosts", |host| word(host).replace('=', ":"));
    if let Some(Value::Object(environment)) = fields.get_mut("environment") {
        environment.retain(|_, value| !value.is_null());
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

mod pretty {
    use super::Value;

    /// Field by field, so that the one that differs is named.
    pub fn same(found: &Value, expected: &Value, path: &str) {
        match (found, expected) {
            (Value::Object(found), Value::Object(expected)) => {
                let keys = |map: &serde_json::Map<String, Value>| {
                    let mut keys: Vec<String> = map.keys().cloned().collect();
                    keys.sort();
                    keys
                };
                assert_eq!(keys(found), keys(expected), "fields of {path}");
                for (key, value) in expected {
                    same(&found[key], value, &format!("{path}.{key}"));
                }
            }
            _ => assert_eq!(found, expected, "{path}"),
        }
    }
}

#[test]
fn redis_keeps_its_log_in_the_project_folder() {
    let found = resolved("docker-compose.redis.yml", &[]);
    let expected = json!({
        "services": {
            "redis": {
                "image": "redis:7-alpine",
                "container_name": "redis",
                "ports": ["127.0.0.1:6379:6379"],
                "volumes": ["./redis/data/jobqueue:/data"],
                "command": ["redis-server", "--appendonly", "yes", "--appendfsync", "everysec"],
                "restart": "unless-stopped",
                "networks": { "redis-network": null },
            }
        },
        "networks": { "redis-network": { "name": "redis-network", "driver": "bridge" } },
    });
    same(&found, &expected, "docker-compose.redis.yml");
}

#[test]
fn insight_joins_the_network_and_finds_redis_without_the_script() {
    let found = resolved("docker-compose.redis-insight.yml", &[]);
    let expected = json!({
        "services": {
            "redis-insight": {
                "image": "redis/redisinsight:latest",
                "container_name": "redis-insight",
                "ports": ["127.0.0.1:8001:5540"],
                "environment": {
                    "RI_REDIS_HOST": "redis",
                    "RI_REDIS_PORT": "6379",
                    "RI_REDIS_ALIAS": "local",
                },
                "extra_hosts": ["host.docker.internal:host-gateway"],
                "volumes": ["redis-insight-data:/data"],
                "restart": "unless-stopped",
                "networks": { "redis-network": null },
            }
        },
        "volumes": found["volumes"].clone(),
        "networks": { "redis-network": { "name": "redis-network", "external": true } },
    });
    same(&found, &expected, "docker-compose.redis-insight.yml");
    assert_eq!(found["volumes"]["redis-insight-data"]["driver"], "local");
}

#[test]
fn insight_takes_its_connection_from_the_environment() {
    let env = [
        ("RI_REDIS_HOST", "cache.example"),
        ("RI_REDIS_PORT", "6400"),
        ("RI_REDIS_ALIAS", "shared"),
        ("RI_REDIS_USERNAME", "viewer"),
        ("RI_REDIS_PASSWORD", "secret"),
    ];
    let found = resolved("docker-compose.redis-insight.yml", &env);
    let environment = &found["services"]["redis-insight"]["environment"];
    assert_eq!(environment, &json!(env.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
}

#[rstest]
#[case("docker-compose.redis.yml")]
#[case("docker-compose.redis-insight.yml")]
fn no_file_carries_the_obsolete_version_or_accepts_a_licence(#[case] file: &str) {
    let text = fs::read_to_string(root().join(file)).unwrap();
    assert!(!text.lines().any(|line| line.starts_with("version:")), "{file}");
    assert!(!text.contains("RI_ACCEPT_TERMS"), "{file}");
    assert!(text.starts_with('#') && text.contains("development only"), "{file}");
}
