//! Who works on the queues.

use rocket_jobqueue::inspect::{JobWorker, ServerInfo, Servers, WorkerDetails};
use rocket_jobqueue::internals::Running;

use crate::broker_contract::bench::*;

fn worker(on: &OpenStore, server_id: &str, running: Vec<Running>) -> Announcement {
    Announcement {
        host: "host".to_owned(),
        pid: 42,
        server_id: format!("{}-{server_id}", on.queue),
        concurrency: 10,
        queues: [(on.queue.clone(), 3)].into(),
        strict_priority: true,
        status: "active",
        started: START,
        running,
        details: WorkerDetails::default(),
    }
}

impl OpenStore {
    /// Those of this case: the registry is everybody's.
    async fn servers(&self) -> Vec<ServerInfo> {
        let Servers { mut servers, .. } = self.broker.servers().await.unwrap();
        servers.retain(|server| server.queues.contains_key(&self.queue));
        servers
    }

    fn running(&self, delivery: &Delivery) -> Running {
        let (started, deadline) = (self.clock.now(), self.clock.now() + secs(60));
        Running { job: Arc::new(delivery.job.clone()), started, deadline }
    }
}

#[rstest]
#[tokio::test]
async fn an_announced_process_is_seen_with_what_it_runs(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a", "b"]).await;
    let running = on.take_many(2).await.iter().map(|one| on.running(one)).collect();
    on.broker.announce(&worker(&on, "2", Vec::new())).await.unwrap();
    on.broker.announce(&worker(&on, "1", running)).await.unwrap();

    let servers = on.servers().await;

    assert_eq!(servers.len(), 2);
    let server = &servers[0];
    assert_eq!((server.host.as_str(), server.pid, server.concurrency), ("host", 42, 10));
    assert_eq!(server.server_id, format!("{}-1", on.queue));
    assert_eq!(server.queues.get(&on.queue), Some(&3));
    assert!(server.strict_priority && server.status == "active");
    assert_eq!(server.started, Some(START));
    let jobs: Vec<_> = server.running.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(jobs, ["a", "b"]);
    let first = &server.running[0];
    assert_eq!((first.job_type.as_str(), first.payload.as_slice()), ("mail", &b"{}"[..]));
    assert_eq!((&first.queue, first.deadline), (&on.queue, Some(START + secs(60))));
    assert!(servers[1].running.is_empty());
}

#[rstest]
#[tokio::test]
async fn an_active_job_names_its_worker(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let other = on.beside();
    other.fill(&["a"]).await;
    on.fill(&["a", "b"]).await;
    let taken = on.take().await;
    // The same id in another queue is another job.
    let elsewhere = other.take().await;
    let running = [other.running(&elsewhere), on.running(&taken)];
    let who = worker(&on, "1", vec![running[1].clone()]);
    on.broker
        .announce(&Announcement { running: vec![running[0].clone()], ..worker(&on, "0", vec![]) })
        .await
        .unwrap();
    on.broker.announce(&who).await.unwrap();

    let JobWorker { server_id, started, deadline, .. } = on.see("a").await.worker.unwrap();

    assert_eq!(server_id, who.server_id);
    assert_eq!((started, deadline), (Some(START), Some(START + secs(60))));
    assert_eq!(on.see("b").await.worker, None);
    assert_eq!(other.see("a").await.worker.unwrap().server_id, format!("{}-0", on.queue));
}

#[rstest]
#[tokio::test]
async fn a_process_that_went_silent_or_said_goodbye_is_not_seen(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.fill(&["a"]).await;
    let running = vec![on.running(&on.take().await)];
    let (silent, polite) = (worker(&on, "1", running), worker(&on, "2", Vec::new()));
    on.broker.announce(&silent).await.unwrap();
    on.broker.announce(&polite).await.unwrap();
    assert_eq!(on.servers().await.len(), 2);

    on.broker.retire(&polite).await.unwrap();
    assert_eq!(on.servers().await.len(), 1);
    on.clock.advance(secs(11));

    assert_eq!(on.servers().await, []);
    assert_eq!(on.see("a").await.worker, None);
}

#[rstest]
#[tokio::test]
async fn the_queues_of_a_process_exist_before_their_first_job(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;

    on.broker.announce(&worker(&on, "1", Vec::new())).await.unwrap();

    assert_eq!(on.info().await.size, 0);
    assert!(on.broker.queues().await.unwrap().contains(&on.queue));
}
