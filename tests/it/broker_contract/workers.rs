//! What operators ask of worker processes. The clock moves less than an announcement lives: a later
//! one would remove what other cases announced in the registry that they share.

use rocket_jobqueue::inspect::{WorkerChangeInfo, WorkerDetails, WorkerState};
use rocket_jobqueue::internals::{WorkerChange, WorkerName, WorkerSetting};

use crate::broker_contract::bench::*;

/// A process with an id of this case.
fn process(on: &OpenStore, name: &str) -> Announcement {
    let mut details = WorkerDetails::default();
    details.version = Some("2.4.1".to_owned());
    details.memory = Some(1 << 20);
    details.state = WorkerState::Draining;
    details.in_use = 3;
    details.configured_concurrency = 10;
    details.concurrency_max = 40;
    details.configured_queues = [(on.queue.clone(), 3)].into();
    Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: format!("{}-{name}", on.queue),
        concurrency: 10,
        queues: [(on.queue.clone(), 3)].into(),
        strict_priority: false,
        status: "active",
        started: START,
        running: Vec::new(),
        details,
    }
}

fn change(setting: WorkerSetting, value: Option<u32>, until: Option<Timestamp>) -> WorkerChange {
    let at = Timestamp::from_secs(0);
    WorkerChange { setting, value, at, until, by: "ann".to_owned(), for_all: false }
}

impl OpenStore {
    async fn ask_one(&self, who: &Announcement, changes: &[WorkerChange]) {
        let (host, pid, server_id) = (&*who.host, i64::from(who.pid), &*who.server_id);
        let name = WorkerName { host, pid, server_id };
        self.broker.request_of_one(name, changes).await.unwrap();
    }

    /// What a viewer sees of this process.
    async fn changes_of(&self, who: &Announcement) -> Vec<WorkerChangeInfo> {
        let servers = self.broker.servers().await.unwrap().servers;
        let server = servers.into_iter().find(|server| server.server_id == who.server_id);
        server.expect("it was announced").changes
    }

    /// The namespace for which *all* is asked: one of this case, as the store is everybody's.
    fn namespace(&self) -> String {
        format!("{}:", self.queue)
    }

    /// A process of that namespace.
    fn namespaced(&self, name: &str) -> Announcement {
        let mut who = process(self, name);
        who.details.namespace = self.namespace();
        who
    }
}

#[rstest]
#[tokio::test]
async fn a_process_is_seen_with_what_it_tells_besides(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let who = process(&on, "1");
    on.broker.announce(&who).await.unwrap();

    for servers in [on.broker.servers().await.unwrap(), on.broker.serving().await.unwrap()] {
        let mut servers = servers.servers.into_iter();
        let server = servers.find(|server| server.server_id == who.server_id).unwrap();
        let mut details = server.details.unwrap();
        // A namespace gives its own.
        details.namespace.clear();
        assert_eq!(details, who.details);
    }
}

#[rstest]
#[tokio::test]
async fn a_request_is_asked_until_its_process_announces_it(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let (mut who, other) = (process(&on, "1"), process(&on, "2"));
    assert!(on.broker.announce(&who).await.unwrap().own.is_empty());
    on.broker.announce(&other).await.unwrap();

    let weight = WorkerSetting::Weight(on.queue.clone());
    on.ask_one(&who, &[change(WorkerSetting::Quiet, Some(1), None)]).await;
    on.clock.advance(secs(1));
    let until = Some(START + secs(3));
    on.ask_one(&who, &[change(weight.clone(), Some(7), until)]).await;

    let seen = on.changes_of(&who).await;
    let seen: Vec<_> = seen.iter().map(|one| (one.setting, one.value, one.applied)).collect();
    assert_eq!(seen, [("quiet", Some(1), false), ("weight", Some(7), false)]);
    assert_eq!(on.changes_of(&other).await, []);

    let mut own = on.broker.announce(&who).await.unwrap().own;
    own.sort_by(|a, b| a.setting.cmp(&b.setting));
    assert_eq!(own.iter().map(|one| one.at).collect::<Vec<_>>(), [START, START + secs(1)]);
    assert_eq!((&own[1].setting, own[1].until, &*own[1].by), (&weight, until, "ann"));
    who.details.applied = own;
    on.broker.announce(&who).await.unwrap();
    let seen = on.changes_of(&who).await;
    assert!(seen.iter().all(|one| one.applied) && seen.len() == 2, "{seen:?}");
    assert_eq!(seen[1].queue.as_ref(), Some(&on.queue));

    // Another request replaces that of its setting alone, and one that has ended is over.
    on.clock.advance(secs(2));
    on.ask_one(&who, &[change(WorkerSetting::Quiet, None, None)]).await;
    on.broker.announce(&who).await.unwrap();
    let seen = on.changes_of(&who).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].setting, seen[0].value, seen[0].applied), ("quiet", None, false));

    // A process of the same key that starts again has none.
    on.broker.retire(&who).await.unwrap();
    assert!(on.broker.announce(&who).await.unwrap().own.is_empty());
}

#[rstest]
#[tokio::test]
async fn what_all_are_asked_holds_for_those_that_start_later_until_it_ends(
    #[values(Store::Memory, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let namespace = on.namespace();
    let until = Some(START + secs(3600));
    let more = change(WorkerSetting::Concurrency, Some(40), until);
    on.broker.request_of_all(&namespace, std::slice::from_ref(&more)).await.unwrap();

    let later = on.namespaced("later");
    let all = on.broker.announce(&later).await.unwrap().all.unwrap();
    assert_eq!(all.len(), 1);
    assert!(all[0].for_all && all[0].value == Some(40) && all[0].at == START, "{all:?}");
    let seen = on.changes_of(&later).await;
    assert!(seen.len() == 1 && seen[0].for_all && !seen[0].applied, "{seen:?}");
    // Another application is not meant.
    let other = process(&on, "other");
    let of_other = on.broker.announce(&other).await.unwrap().all.unwrap();
    assert!(!of_other.iter().any(|one| one.until == until), "{of_other:?}");

    // Without an end the stored one is removed.
    let back = change(WorkerSetting::Concurrency, None, None);
    on.broker.request_of_all(&namespace, &[back]).await.unwrap();
    assert!(on.broker.requests_of_all(&namespace).await.unwrap().is_empty());

    let soon = WorkerChange { until: Some(START + secs(4)), ..more };
    on.broker.request_of_all(&namespace, &[soon]).await.unwrap();
    assert_eq!(on.broker.requests_of_all(&namespace).await.unwrap().len(), 1);
    on.clock.advance(secs(4));
    on.broker.announce(&later).await.unwrap();
    assert!(on.broker.requests_of_all(&namespace).await.unwrap().is_empty());
    assert_eq!(on.changes_of(&later).await, []);
}
