//! Pages that follow what happens: a stream that tells when something has changed, and
//! the script that then fetches the page anew. Without scripts a page is read as it was
//! made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rocket::response::stream::{Event, EventStream};
use rocket::{Route, Shutdown, get, routes};
use tokio::time::Instant;

use crate::inspector::Inspector;
use crate::web::JobQueue;
use crate::web::api::Refused;
use crate::web::guards::ViewAccess;
use crate::web::looks::{Follower, SIGN_OF_LIFE};

/// How often the store is asked, once for all pages that follow; with many queues more
/// seldom, so that it is asked for about a hundred of them in a second.
const INTERVAL: Duration = Duration::from_secs(2);
const PER_QUEUE: Duration = Duration::from_millis(10);

/// Of more queues than this, the first in order are followed.
const MAX_QUEUES: usize = 100;

/// At the latest then an event is sent, so that times stay right.
const QUIET: Duration = Duration::from_secs(30);

/// One event `changed` at first, whenever sizes or counters of a queue have, and at least
/// every 30 s. All who follow share one look, of one script a queue.
#[get("/ui/events")]
fn events(
    _access: ViewAccess,
    queue: &JobQueue,
    shutdown: Shutdown,
) -> Result<EventStream![], Refused> {
    let place = queue.looks().place(Follower::Viewer)?;
    let inspector = queue.redacted_inspector();
    let mut digests = queue.looks().queues.follow((), move || {
        let inspector = inspector.clone();
        async move {
            let (digest, queues) = digest(&inspector).await;
            (digest, Some(INTERVAL.max(PER_QUEUE * queues)))
        }
    });
    let mut shutdown = shutdown;
    let events = EventStream! {
        let _place = place;
        let mut known = tokio::select! {
            first = digests.wait_for(Option::is_some) => first.ok().and_then(|first| *first),
            () = &mut shutdown => return,
        };
        // At first too: something may have changed since the page was made.
        yield Event::data("").event("changed");
        let mut told = Instant::now();
        loop {
            tokio::select! {
                changed = digests.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(told + QUIET) => {}
                () = &mut shutdown => return,
            }
            let now = *digests.borrow_and_update();
            if now != known || told.elapsed() >= QUIET {
                (known, told) = (now, Instant::now());
                yield Event::data("").event("changed");
            }
        }
    };
    Ok(events.heartbeat(SIGN_OF_LIFE))
}

/// What the queues look like, in one number, and how many there are; `None` where the
/// store does not say.
async fn digest(inspector: &Inspector) -> (Option<u64>, u32) {
    let Ok(all) = inspector.some_queues(None, MAX_QUEUES).await else { return (None, 0) };
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
