//! Live pages: an event stream that says whether what a page shows is still true. The script of a
//! page then fetches the page again and replaces its content, or says that the connection is lost.
//! Without scripts a page stays as it is, and says of when it is.
//!
//! The script is `assets/live.js`. A *beat* a second has two values: how long ago the store answered
//! last, and a digest of what it holds. A page without a fresh beat of a store that answers is not
//! live, whoever is to blame: the store, the application, or what lies between it and the browser.
//!
//! What may surprise. A proxy may keep a stream back although it is asked not to. Then the script
//! asks for single beats, `?once`, which take no slot of a stream.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rocket::response::stream::{Event, EventStream};
use rocket::{Route, Shutdown, get, routes};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::chance::Chance;
use crate::inspector::Inspector;
use crate::web::JobQueue;
use crate::web::api::Refused;
use crate::web::guards::ViewRight;
use crate::web::looks::Follower;
use crate::web::unbuffered::Unbuffered;

/// How often the store is asked, once for all open pages, and how much longer the interval gets
/// with each queue: at most about 100 queues are read per second.
const INTERVAL: Duration = Duration::from_secs(2);
const INTERVAL_PER_QUEUE: Duration = Duration::from_millis(10);

/// Maximum queues that are watched, the first by name.
const MAX_QUEUES: usize = 100;

/// Interval of a stream's beats. Streams tick each by itself, with a phase of its own: if all woke
/// when the store has answered, their burst would delay jobs.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a single beat waits for a reading of the store.
const ONCE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a page needs to know to call itself live.
#[derive(Serialize)]
struct Beat {
    /// How long ago the store answered last; `None` if it never has.
    age_ms: Option<u64>,
    /// Changes with the sizes and counters of the queues; `None` if they cannot be read.
    digest: Option<String>,
}

impl Beat {
    async fn now(queue: &JobQueue, digest: Option<u64>) -> Event {
        let age = queue.runtime().last_answer().await;
        let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let digest = digest.map(|digest| format!("{digest:016x}"));
        Event::json(&Self { age_ms, digest }).event("beat")
    }
}

/// Sends the event `beat` at once, and then every second. All open pages share one reading of the
/// store, of one script a queue. Their number is bounded: 429 beyond. With `once`, a single beat.
#[get("/ui/events?<once>")]
async fn events(
    _right: ViewRight,
    queue: &JobQueue,
    shutdown: Shutdown,
    once: Option<&str>,
) -> Result<Unbuffered<EventStream![]>, Refused> {
    let is_single = once.is_some();
    let place = match is_single {
        true => None,
        false => Some(queue.looks().place(Follower::Viewer).await?),
    };
    let inspector = queue.redacted_inspector();
    let mut digests = queue.looks().queues.follow((), move || {
        let inspector = inspector.clone();
        async move {
            let (digest, queues) = digest(&inspector).await;
            (digest, Some(INTERVAL.max(INTERVAL_PER_QUEUE * queues)))
        }
    });
    let (mut shutdown, queue) = (shutdown, queue.clone());
    Ok(Unbuffered(EventStream! {
        let _place = place;
        if is_single {
            let first = digests.wait_for(Option::is_some);
            // A store that does not answer is what the beat is to say.
            let _ = tokio::time::timeout(ONCE_TIMEOUT, first).await;
        }
        let first = Instant::now() + BEAT_INTERVAL.mul_f64(Chance::system().share());
        let mut ticks = interval_at(first, BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let digest = digests.borrow().flatten();
            yield Beat::now(&queue, digest).await;
            if is_single {
                return;
            }
            tokio::select! {
                _ = ticks.tick() => {}
                () = &mut shutdown => return,
            }
        }
    }))
}

/// A hash of the queues' sizes and counters, and their number; `None` if the store does not
/// answer.
async fn digest(inspector: &Inspector) -> (Option<u64>, u32) {
    let Ok(all) = inspector.some_queues(None, MAX_QUEUES).await else { return (None, 0) };
    let mut hasher = DefaultHasher::new();
    for summary in &all.queues {
        summary.queue.as_str().hash(&mut hasher);
        if let Some(info) = &summary.info {
            info.sizes.hash(&mut hasher);
            (info.processed, info.failed, info.paused).hash(&mut hasher);
        }
    }
    (Some(hasher.finish()), u32::try_from(all.queues.len()).unwrap_or(u32::MAX))
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![events]
}
