//! Other applications in the same store: what they have there under the same names must be as it
//! was when a case ends, and the case must see nothing of it.

use futures_util::FutureExt;

use super::bench::*;
use rocket_jobqueue::internals::{JobList, Namespace, Page, PeriodicRun, in_namespace};

/// The namespace of the case's own store.
pub const OWN: &str = "shop";

/// Others: one whose name begins so, and one without a namespace.
const OTHERS: [Option<&str>; 2] = [Some("shop-eu"), None];

/// An id that a case may also use for a periodic job.
pub const PERIODIC: &str = "nightly";

/// The other applications of a store. Dropped with the case, it compares what they have.
pub struct Neighbour {
    whole: Arc<dyn Broker>,
    before: Vec<String>,
}

fn namespace(name: Option<&str>) -> Option<Namespace> {
    name.map(|name| Namespace::new(name).unwrap())
}

/// This store as the application with that namespace sees it.
pub fn seen_by(whole: &Arc<dyn Broker>, name: Option<&str>) -> Arc<dyn Broker> {
    in_namespace(Arc::clone(whole), namespace(name).as_ref())
}

/// The archive's limits as a store below the own namespace gets them.
pub fn stored(archive: ArchiveSettings) -> ArchiveSettings {
    archive.stored_in(namespace(Some(OWN)).as_ref())
}

impl Neighbour {
    /// Fills the store with what others have in a queue of this name.
    pub async fn in_store(whole: Arc<dyn Broker>, queue: &QueueName) -> Arc<Self> {
        for name in OTHERS {
            fill(&*seen_by(&whole, name), queue).await;
        }
        let before = contents(&*whole).await;
        assert!(before.len() > 10, "{before:?}");
        Arc::new(Self { whole, before })
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let after = contents(&*self.whole).now_or_never().expect("memory answers at once");
            assert_eq!(after, self.before, "of other applications");
        }
    }
}

/// Jobs in every state under ids that cases use, locks, keys and announcements.
async fn fill(broker: &dyn Broker, queue: &QueueName) {
    let job = |name: &str| {
        let mut record = JobRecord::new("mail", Some(b"{}".to_vec()), queue.clone());
        record.id = id(name);
        record.max_retry = 10;
        record.retention = secs(3_000_000_000);
        NewJob::now(record)
    };
    let ends = [done(), retry(secs(1)), archive()];
    for (name, end) in ["x", "y", "z"].into_iter().zip(ends) {
        broker.enqueue(&[job(name)]).await.unwrap();
        let taken = broker.dequeue(std::slice::from_ref(queue), 1).await.unwrap().deliveries;
        broker.settle(&[(taken[0].clone(), end).into()]).await.unwrap();
    }
    // It is running, and will be lost.
    broker.enqueue(&[job("c")]).await.unwrap();
    broker.dequeue(std::slice::from_ref(queue), 1).await.unwrap();
    let jobs = [
        unique(job("a"), secs(3600)),
        guarded(job("b"), "key", "body"),
        job("d").placed(Placement::After(secs(1))),
        grouped(job("e"), "g"),
    ];
    assert!(broker.enqueue(&jobs).await.unwrap().iter().all(created));
    broker.bind_key("key", queue, secs(86_400)).await.unwrap();
    let run = PeriodicRun::new(id("ran"), START);
    broker.record_run(PERIODIC, &run, secs(3_000_000_000)).await.unwrap();
}

/// What all but the own namespace have, a line for each list.
async fn contents(broker: &dyn Broker) -> Vec<String> {
    let mut lines = Vec::new();
    let page = Page::default().size(100).unwrap();
    for queue in broker.queues().await.unwrap() {
        if queue.as_str().starts_with(&format!("{OWN}:")) {
            continue;
        }
        let info = broker.queue(&queue).await.unwrap();
        lines.push(format!("{queue} {} of {}", info.failed, info.processed));
        let states = JobState::ALL.into_iter().filter(|state| *state != JobState::Aggregating);
        let lists = states.map(JobList::State).chain([JobList::Group("g")]);
        for list in lists {
            for row in broker.jobs(&queue, list, &page).await.unwrap().rows {
                lines.push(format!("{queue} {list:?} {}", row.id()));
            }
        }
    }
    for name in OTHERS {
        let stored = name.map_or(PERIODIC.to_owned(), |name| format!("{name}:{PERIODIC}"));
        let runs = broker.periodic_history(&stored, 0, 10).await.unwrap();
        lines.push(format!("{stored} {runs:?}"));
    }
    lines
}
