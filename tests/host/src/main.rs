//! The smallest application that carries the job queue.

use rocket_jobqueue::JobQueue;

#[rocket::launch]
fn rocket() -> _ {
    rocket::build().attach(JobQueue::fairing())
}
