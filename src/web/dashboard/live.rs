//! Pages that follow what happens: a stream that tells when something has changed, and
//! the script that then fetches the page anew. Without scripts a page is read as it was
//! made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rocket::response::stream::{Event, EventStream};
use rocket::{Route, Shutdown, get, routes};

use crate::web::JobQueue;
use crate::web::guards::ViewAccess;

/// How often the store is asked, for each page that follows.
const INTERVAL: Duration = Duration::from_secs(2);

/// One event `changed` whenever sizes or counters of any queue have, and at least
/// every 30 s, so that times stay right. One script a queue each time.
#[get("/ui/events")]
fn events(_access: ViewAccess, queue: &JobQueue, shutdown: Shutdown) -> EventStream![] {
    let queue = queue.clone();
    let mut shutdown = shutdown;
    EventStream! {
        let (mut last, mut quiet) = (None, 15);
        loop {
            let now = digest(&queue).await;
            quiet += 1;
            // At first too: something may have changed since the page was made.
            if last != now || quiet >= 15 {
                yield Event::data("").event("changed");
                quiet = 0;
            }
            last = now;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = &mut shutdown => break,
            }
        }
    }
}

/// What all queues look like, in one number; `None` where the store does not say.
async fn digest(queue: &JobQueue) -> Option<u64> {
    let all = queue.inspector().all_queues().await.ok()?;
    let mut hasher = DefaultHasher::new();
    for summary in &all {
        summary.queue.as_str().hash(&mut hasher);
        if let Some(info) = &summary.info {
            info.sizes.hash(&mut hasher);
            (info.processed, info.failed, info.paused).hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![events]
}
