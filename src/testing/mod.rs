//! A queue for an application's tests: without Redis, and with a clock that the test
//! moves.
//!
//! Nothing runs by itself. A test enqueues through the application's own code, asserts on
//! what was enqueued, and moves the clock. Moving the clock runs everything that becomes
//! due on the way, one job at a time in the order of due times, with all retries and their
//! delays. Three minutes or three weeks take milliseconds, and every run is the same: ids
//! are consecutive numbers, and retries wait Asynq's shortest delay unless the application
//! has a policy of its own.
//!
//! With a Rocket application, [`queue`] takes the fairing that the application attaches
//! and returns it with the [`TestQueue`] that drives it. Both of Rocket's local clients
//! work, the asynchronous and the blocking one:
//!
//! ```
//! use rocket::local::blocking::Client;
//! use rocket::{Build, Rocket, post, routes};
//! use rocket_jobqueue::{Job, JobQueue, JobQueueFairing, testing};
//! use std::time::Duration;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Welcome {
//!     user: u64,
//! }
//!
//! impl Job for Welcome {
//!     const TYPE: &'static str = "mail:welcome";
//! }
//!
//! async fn send_welcome(job: Welcome) -> Result<String, std::io::Error> {
//!     Ok(format!("welcome, user {}", job.user))
//! }
//!
//! #[post("/users/<user>")]
//! async fn sign_up(user: u64, queue: &JobQueue) -> Result<(), rocket_jobqueue::Error> {
//!     queue.enqueue(Welcome { user }).delay(Duration::from_secs(180)).await?;
//!     Ok(())
//! }
//!
//! fn jobs() -> JobQueueFairing {
//!     JobQueue::fairing().handle(send_welcome)
//! }
//!
//! fn app(jobs: JobQueueFairing) -> Rocket<Build> {
//!     rocket::build().attach(jobs).mount("/", routes![sign_up])
//! }
//!
//! // The test:
//! let (jobs, tests) = testing::queue(jobs());
//! let client = Client::tracked(app(jobs)).unwrap();
//! client.post("/users/7").dispatch();
//!
//! let welcome = tests.assert_enqueued::<Welcome>(|job| job.user == 7);
//! assert_eq!(welcome.delay(), Duration::from_secs(180));
//!
//! assert!(tests.blocking_advance(Duration::from_secs(179)).is_empty());
//! let report = tests.blocking_advance(Duration::from_secs(1));
//! assert_eq!(report.result::<String>(&welcome.id).as_deref(), Some("welcome, user 7"));
//! ```
//!
//! Groups are aggregated by the same clock.
//!
//! Without an application, [`TestQueue::new`] takes the handlers directly.

mod context;
mod drive;
mod enqueued;
mod faults;
mod report;
mod setup;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;

use crate::broker::memory::MemoryBroker;
use crate::broker::{Answer, Inspect, JobInfo};
use crate::client::{Client, Enqueue};
use crate::inspector::Inspector;
use crate::job::{Job, JobId, Outcome};
use crate::runtime::{Driven, TestDriver};
use crate::sync::get_mut;
use crate::time::{Clock, Timestamp};
use crate::web::JobQueueFairing;

pub use context::{TestAttempt, context};
pub use enqueued::EnqueuedJob;
pub use report::{Attempt, AttemptEnd, Report};
use setup::QueueStage;

/// Replaces Redis, the worker and the clock of the queue that this fairing makes by a test.
/// Attach the returned fairing, launch with a local client, and drive the queue with the
/// [`TestQueue`].
///
/// Configuration is read as usual, except for the store's: queues that the application does not
/// serve are not served here either.
pub fn queue(fairing: JobQueueFairing) -> (JobQueueFairing, TestQueue) {
    let tests = TestQueue::made(Clock::manual(Clock::system().now()), None);
    let broker = Arc::new(tests.0.broker.clone());
    (fairing.driven_by(broker, tests.0.driver.clone()), tests)
}

/// A queue that a test drives. Clones share it.
///
/// ```
/// use rocket_jobqueue::testing::TestQueue;
/// use rocket_jobqueue::{Job, JobContext, JobError};
/// use std::time::Duration;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Report;
///
/// impl Job for Report {
///     const TYPE: &'static str = "report";
/// }
///
/// async fn build_report(_job: Report, context: JobContext) -> Result<u32, JobError> {
///     if context.attempt() < 3 {
///         return Err(JobError::failed("the warehouse is closed"));
///     }
///     Ok(context.attempt())
/// }
///
/// # #[rocket::main]
/// # async fn main() -> Result<(), rocket_jobqueue::Error> {
/// let tests = TestQueue::new().handle(build_report);
/// let receipt = tests.enqueue(Report).await?;
///
/// // Two failures, 15 s and 16 s of waiting, and a success.
/// let report = tests.advance(Duration::from_secs(60)).await;
/// assert_eq!(report.len(), 3);
/// assert_eq!(report.result::<u32>(&receipt.id), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TestQueue(Arc<TestQueueInner>);

struct TestQueueInner {
    clock: Clock,
    broker: MemoryBroker,
    /// Receives the parts of the queue at launch, for this test to drive.
    driver: TestDriver,
    /// The queue without a Rocket application.
    plain: Option<Mutex<QueueStage>>,
    /// The outcomes of the next attempts of each job type.
    faults: Mutex<HashMap<&'static str, VecDeque<Outcome>>>,
    /// When the leases of vanished workers expire.
    vanished: Mutex<Vec<Timestamp>>,
    /// Held by the task that drives the queue.
    driving: tokio::sync::Mutex<()>,
}

impl Drop for TestQueueInner {
    fn drop(&mut self) {
        if let Some(QueueStage::Started(queue)) = self.plain.as_mut().map(get_mut) {
            queue.runtime().abandon();
        }
    }
}

impl Default for TestQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl TestQueue {
    /// The driven parts of the queue, which exist while the application runs.
    #[track_caller]
    fn driven(&self) -> Arc<Driven> {
        if self.0.plain.is_some() {
            self.queue();
        }
        self.0.driver.driven().expect(
            "the application runs: attach the fairing that `testing::queue` gave back, launch \
             with a local client, and keep the client",
        )
    }

    /// The client, for code that does not know Rocket.
    ///
    /// # Panics
    /// If the application was not launched yet, or has ended.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.driven().client.clone()
    }

    /// Prepares a job; await it to store it. See [`Enqueue`] for the options.
    ///
    /// # Panics
    /// If the application was not launched yet, or has ended.
    #[track_caller]
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue {
        self.client().enqueue(job)
    }

    /// The inspector of queues and jobs.
    pub fn inspector(&self) -> Inspector {
        Inspector::new(Arc::new(self.0.broker.clone()))
    }

    /// The time of the test's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Runs all jobs that are due now, and the jobs that they enqueue for now.
    ///
    /// # Panics
    /// If the application was not launched yet, or has ended, or if jobs enqueue each other
    /// endlessly.
    pub async fn run_due(&self) -> Report {
        self.advance(Duration::ZERO).await
    }

    /// Moves the clock forward and runs everything that becomes due on the way: one job at a
    /// time, in the order of due times, each at its own time, including retries and jobs that
    /// jobs enqueue.
    ///
    /// The clock stands still while a handler runs.
    ///
    /// # Panics
    /// As [`TestQueue::run_due`].
    pub async fn advance(&self, by: Duration) -> Report {
        drive::advance(self, by).await
    }

    /// [`TestQueue::run_due`] for a test that is not async, as with Rocket's
    /// blocking client. The jobs run on that client's runtime.
    ///
    /// # Panics
    /// In an async test, and as [`TestQueue::run_due`].
    #[track_caller]
    pub fn blocking_run_due(&self) -> Report {
        self.blocking_advance(Duration::ZERO)
    }

    /// [`TestQueue::advance`] for a test that is not async, as with Rocket's
    /// blocking client. The jobs run on that client's runtime.
    ///
    /// # Panics
    /// In an async test, and as [`TestQueue::run_due`].
    #[track_caller]
    pub fn blocking_advance(&self, by: Duration) -> Report {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "this test is async: await `run_due` or `advance`"
        );
        let jobs = self.advance(by);
        match &self.driven().tokio {
            Some(runtime) => runtime.block_on(jobs),
            None => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a test has threads and files left for a runtime")
                .block_on(jobs),
        }
    }

    /// All jobs that still exist, in the order in which they were enqueued.
    pub fn jobs(&self) -> Vec<JobInfo> {
        let stored = self.0.broker.recorded();
        let find = |one: &crate::broker::memory::Recorded| {
            let record = &one.job.record;
            at_once(self.0.broker.job(&record.queue, &record.id))
        };
        let mut seen = std::collections::HashSet::new();
        stored
            .iter()
            .filter(|one| seen.insert((one.job.record.queue.clone(), one.job.record.id.clone())))
            .filter_map(find)
            .collect()
    }

    /// The job with this id, in any queue; `None` if it has ended and was deleted.
    pub fn job(&self, id: &JobId) -> Option<JobInfo> {
        self.jobs().into_iter().find(|info| info.record.id == *id)
    }
}

impl fmt::Debug for TestQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestQueue({})", self.now())
    }
}

/// The answer of the store in memory, which is always ready.
fn at_once<T>(answer: Answer<'_, T>) -> T {
    answer
        .now_or_never()
        .expect("the store in memory answers at once")
        .expect("the store in memory does not fail")
}
