//! Live pages: an event stream that says when something has changed. The script of a page then
//! fetches the page again and replaces its content. Without scripts a page stays as it is.
//!
//! The script is `assets/live.js`. It fetches the page with `fetch`, takes the part marked
//! `data-content`, and leaves it alone while the reader selects text or fills in a form. A button
//! pauses it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rocket::response::stream::{Event, EventStream};
use rocket::{Route, Shutdown, get, routes};
use tokio::time::Instant;

use crate::inspector::Inspector;
use crate::web::JobQueue;
use crate::web::api::Refused;
use crate::web::guards::ViewRight;
use crate::web::looks::{Follower, STREAM_HEARTBEAT_INTERVAL};

/// How often the store is asked, once for all open pages, and how much longer the interval gets
/// with each queue: at most about 100 queues are read per second.
const INTERVAL: Duration = Duration::from_secs(2);
const INTERVAL_PER_QUEUE: Duration = Duration::from_millis(10);

/// Maximum queues that are watched, the first by name.
const MAX_QUEUES: usize = 100;

/// Longest time between two events, so that the relative times of a page stay right.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Sends the event `changed` at once, when sizes or counters of a queue change, and at least
/// every 30 s. All open pages share one reading of the store, of one script a queue. Their
/// number is bounded: 429 beyond.
#[get("/ui/events")]
async fn events(
    _right: ViewRight,
    queue: &JobQueue,
    shutdown: Shutdown,
) -> Result<EventStream![], Refused> {
    let place = queue.looks().place(Follower::Viewer).await?;
    let inspector = queue.redacted_inspector();
    let mut digests = queue.looks().queues.follow((), move || {
        let inspector = inspector.clone();
        async move {
            let (digest, queues) = digest(&inspector).await;
            (digest, Some(INTERVAL.max(INTERVAL_PER_QUEUE * queues)))
        }
    });
    let (mut shutdown, queue) = (shutdown, queue.clone());
    let events = EventStream! {
        let _place = place;
        let mut known = tokio::select! {
            first = digests.wait_for(Option::is_some) => first.ok().and_then(|first| *first),
            () = &mut shutdown => return,
        };
        // Something may have changed since the page was made.
        yield Event::data("").event("changed");
        let mut sent = Instant::now();
        loop {
            tokio::select! {
                changed = digests.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(sent + MAX_SILENCE) => {}
                () = &mut shutdown => return,
            }
            queue.looks().spread().await;
            let now = *digests.borrow_and_update();
            if now != known || sent.elapsed() >= MAX_SILENCE {
                (known, sent) = (now, Instant::now());
                yield Event::data("").event("changed");
            }
        }
    };
    Ok(events.heartbeat(STREAM_HEARTBEAT_INTERVAL))
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
