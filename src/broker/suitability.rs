//! Whether a store's servers are suitable for jobs: which program they are, and what they
//! do if memory is full. Pure functions of `INFO`.

use super::{StoreInfo, StoreNode};

/// Servers on which the test suites run, by name and minor versions (`scripts/servers.sh`,
/// `docs/servers.md`).
const TESTED: [(&str, &[&str]); 2] =
    [("Redis", &["6.2", "7.0", "8.0", "8.2"]), ("Valkey", &["8.1", "9.1"])];

/// Servers whose default configuration refuses scripts such as Asynq's.
const REFUSING: [(&str, &str); 1] =
    [("Dragonfly", "refuses scripts that use keys they do not declare, which all of ours do")];

/// What is known about a server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// The test suites run on this minor version.
    Tested,
    /// It was not tested, or `INFO` does not name it.
    Unknown,
    /// It cannot work, for this reason.
    Unsuitable(&'static str),
}

/// What a store does if memory is full; its worst server counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// It refuses writes, has no limit, or does not say.
    #[default]
    Nothing,
    /// It evicts keys with an expiry: locks and idempotency keys.
    Expiring(String),
    /// It evicts any key, so jobs too.
    Jobs(String),
}

impl StoreNode {
    /// What is known about this server program.
    pub(crate) fn support(&self) -> Support {
        let name = self.server.as_deref().unwrap_or_default();
        if let Some((_, why)) = REFUSING.iter().find(|(refusing, _)| *refusing == name) {
            return Support::Unsuitable(why);
        }
        let version = self.version.as_deref().unwrap_or_default();
        if is_before_6_2(self) {
            return Support::Unsuitable("is older than Redis 6.2, whose commands are needed");
        }
        let minor: Vec<&str> = version.splitn(3, '.').take(2).collect();
        let tested = TESTED.iter().find(|(tested, _)| *tested == name);
        match tested.is_some_and(|(_, minors)| minors.contains(&minor.join(".").as_str())) {
            true => Support::Tested,
            false => Support::Unknown,
        }
    }

    /// What this server evicts if its memory is full.
    pub(crate) fn eviction(&self) -> Eviction {
        let policy = self.eviction_policy.as_deref().unwrap_or_default();
        match self.max_memory {
            None | Some(0) => Eviction::Nothing,
            Some(_) if policy.starts_with("allkeys-") => Eviction::Jobs(policy.to_owned()),
            Some(_) if policy.starts_with("volatile-") => Eviction::Expiring(policy.to_owned()),
            Some(_) => Eviction::Nothing,
        }
    }
}

/// Whether it is a Redis below 6.2, which has no `LMOVE`. Only for Redis itself: compatible
/// servers report a version that says nothing about single commands.
fn is_before_6_2(node: &StoreNode) -> bool {
    let version = node.version.as_deref().filter(|_| node.server.as_deref() == Some("Redis"));
    let Some(version) = version else { return false };
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 2)
}

impl StoreInfo {
    /// What the store evicts if its memory is full.
    pub(crate) fn eviction(&self) -> Eviction {
        let all: Vec<_> = self.nodes.iter().map(StoreNode::eviction).collect();
        let worst = all.iter().find(|one| matches!(one, Eviction::Jobs(_)));
        let worst = worst.or_else(|| all.iter().find(|one| matches!(one, Eviction::Expiring(_))));
        worst.cloned().unwrap_or_default()
    }

    /// The programs of its servers, each once, with what is known about them: `Redis 7.0.15`.
    pub(crate) fn programs(&self) -> Vec<(String, Support)> {
        let mut programs: Vec<(String, Support)> = Vec::new();
        for node in &self.nodes {
            let Some(version) = &node.version else { continue };
            let name = format!("{} {version}", node.server.as_deref().unwrap_or("Redis"));
            if !programs.iter().any(|(known, _)| *known == name) {
                programs.push((name, node.support()));
            }
        }
        programs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(server: &str, version: &str) -> StoreNode {
        StoreNode {
            server: Some(server.to_owned()),
            version: Some(version.to_owned()),
            ..StoreNode::default()
        }
    }

    fn full(max_memory: u64, policy: &str) -> StoreNode {
        StoreNode {
            max_memory: Some(max_memory),
            eviction_policy: Some(policy.to_owned()),
            ..StoreNode::default()
        }
    }

    fn store(nodes: Vec<StoreNode>) -> StoreInfo {
        let kind = crate::broker::StoreKind::Redis;
        StoreInfo { kind, description: String::new(), cluster: true, nodes }
    }

    #[test]
    fn a_server_is_tested_by_name_and_minor_version() {
        for (server, version, tested) in [
            ("Redis", "7.0.15", true),
            ("Redis", "6.2.5", true),
            ("Redis", "7.2.4", false),
            ("Redis", "70.0", false),
            ("Valkey", "8.1.1", true),
            ("Valkey", "7.0.15", false),
            ("KeyDB", "6.2.0", false),
        ] {
            let support = node(server, version).support();
            assert_eq!(support == Support::Tested, tested, "{server} {version}: {support:?}");
        }
        assert_eq!(StoreNode::default().support(), Support::Unknown, "it does not say");
        for (server, version) in [("Redis", "6.0.16"), ("Dragonfly", "df-v1.40.1")] {
            assert!(matches!(node(server, version).support(), Support::Unsuitable(_)), "{server}");
        }
    }

    #[test]
    fn the_table_and_the_script_have_every_tested_server() {
        let read = |path: &str| {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(root.join(path)).unwrap()
        };
        let (table, script) = (read("docs/servers.md"), read("scripts/servers.sh"));
        for (name, minors) in TESTED {
            let mut rows = table.lines().filter(|row| row.starts_with(&format!("| {name} ")));
            for minor in minors {
                let has = rows.clone().any(|row| row.contains(minor) && row.contains("| tested"));
                assert!(has, "docs/servers.md does not say that {name} {minor} is tested");
                // The machine's own.
                let fetched = script.contains(&format!("{}-{minor}", name.to_lowercase()));
                assert!(fetched || (name, *minor) == ("Redis", "7.0"), "{name} {minor}");
            }
            assert!(rows.next().is_some());
        }
    }

    #[test]
    fn only_a_limit_and_a_policy_together_lose_jobs() {
        for (max_memory, policy, expected) in [
            (0, "allkeys-lru", Eviction::Nothing),
            (1, "noeviction", Eviction::Nothing),
            (1, "allkeys-lru", Eviction::Jobs("allkeys-lru".to_owned())),
            (1, "allkeys-random", Eviction::Jobs("allkeys-random".to_owned())),
            (1, "volatile-ttl", Eviction::Expiring("volatile-ttl".to_owned())),
        ] {
            assert_eq!(full(max_memory, policy).eviction(), expected, "{max_memory} {policy}");
        }
        assert_eq!(StoreNode::default().eviction(), Eviction::Nothing, "it does not say");
    }

    #[test]
    fn the_worst_of_all_masters_counts() {
        let nodes = ["noeviction", "volatile-lru", "allkeys-lfu"].map(|policy| full(1, policy));
        assert_eq!(store(nodes[..1].to_vec()).eviction(), Eviction::Nothing);
        let expiring = Eviction::Expiring("volatile-lru".to_owned());
        assert_eq!(store(nodes[..2].to_vec()).eviction(), expiring);
        let jobs = Eviction::Jobs("allkeys-lfu".to_owned());
        assert_eq!(store(nodes.to_vec()).eviction(), jobs);
    }
}
