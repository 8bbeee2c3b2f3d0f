//! What Asynq's tools do to jobs that Rust wrote, one action on one state at a
//! time: what must have moved, and what must not.

use super::scene::{GROUP, STATES, Scene};

/// What an action does to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Run,
    Archive,
    Delete,
}

impl Action {
    pub const ALL: [Self; 3] = [Action::Run, Action::Archive, Action::Delete];

    /// As both tools call it.
    pub fn verb(self) -> &'static str {
        match self {
            Action::Run => "run",
            Action::Archive => "archive",
            Action::Delete => "delete",
        }
    }

    fn becomes(self) -> Option<&'static str> {
        match self {
            Action::Run => Some("pending"),
            Action::Archive => Some("archived"),
            Action::Delete => None,
        }
    }
}

/// The jobs of a state.
pub fn ids(state: &str) -> [&'static str; 3] {
    let (_, ids) = STATES.into_iter().find(|(name, _)| *name == state).expect("a state");
    ids
}

impl Scene {
    /// Both inspectors find the first `moved` jobs of this state where the action
    /// puts them and the others where they were, and every count is right.
    pub async fn moved(&self, state: &str, moved: usize, action: Action) {
        let before = ids(state);
        for (n, id) in before.into_iter().enumerate() {
            let expected = if n < moved { action.becomes() } else { Some(state) };
            match expected {
                Some(expected) => {
                    let job = self.bench.agreed("default", id).await;
                    assert_eq!(job["state"], expected, "job {id}");
                }
                None => {
                    for side in [crate::bench::Side::Go, crate::bench::Side::Rust] {
                        let job = self.bench.look(side, "default", id).await;
                        assert_eq!(job, None, "{side:?} still sees the deleted job {id}");
                    }
                }
            }
        }
        for (name, ids) in STATES {
            let mut expected = ids.len();
            if name == state {
                expected -= moved;
            }
            if action.becomes() == Some(name) {
                expected += moved;
            }
            assert_eq!(self.count(name).await, expected, "jobs that are {name}");
            let listed = self.ids(name).await;
            assert_eq!(listed.len(), expected, "Asynq lists as {name}: {listed:?}");
        }
        // A group without members does not exist.
        let groups = self.bench.redis.cli(&["smembers", "asynq:{default}:groups"]);
        let empty = state == "aggregating" && moved == before.len();
        assert_eq!(groups, if empty { "" } else { GROUP });
    }
}
