//! Pages that follow what happens: a stream that tells when something has changed, and
//! the script that then fetches the page anew. Without scripts a page is read as it was
//! made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rocket::response::stream::{Event, EventStream};
use rocket::{Route, Shutdown, get, routes};

use crate::web::JobQueue;
use crate::web::guards::ViewAccess;

/// How often the store is asked, for each page that follows; with many queues more
/// seldom, so that it is asked for about a hundred of them in a second.
const INTERVAL: Duration = Duration::from_secs(2);
const PER_QUEUE: Duration = Duration::from_millis(10);

/// At the latest then an event is sent, so that times stay right.
const QUIET: Duration = Duration::from_secs(30);

/// One event `changed` at first, whenever sizes or counters of any queue have, and at
/// least every 30 s. One script a queue each time.
#[get("/ui/events")]
fn events(_access: ViewAccess, queue: &JobQueue, shutdown: Shutdown) -> EventStream![] {
    let queue = queue.clone();
    let mut shutdown = shutdown;
    EventStream! {
        // At first too: something may have changed since the page was made.
        let mut last = None;
        loop {
            let (now, queues) = digest(&queue).await;
            let fresh = last.as_ref().is_some_and(|(known, since): &(Option<u64>, Instant)| {
                *known == now && since.elapsed() < QUIET
            });
            if !fresh {
                last = Some((now, Instant::now()));
                yield Event::data("").event("changed");
            }
            let pause = INTERVAL.max(PER_QUEUE * queues);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut shutdown => break,
            }
        }
    }
}

/// What all queues look like, in one number, and how many there are; `None` where the
/// store does not say.
async fn digest(queue: &JobQueue) -> (Option<u64>, u32) {
    let Ok(all) = queue.shown().all_queues().await else { return (None, 0) };
    let mut hasher = DefaultHasher::new();
    for summary in &all {
        summary.queue.as_str().hash(&mut hasher);
        if let Some(info) = &summary.info {
            info.sizes.hash(&mut hasher);
            (info.processed, info.failed, info.paused).hash(&mut hasher);
        }
    }
    (Some(hasher.finish()), u32::try_from(all.len()).unwrap_or(u32::MAX))
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![events]
}
