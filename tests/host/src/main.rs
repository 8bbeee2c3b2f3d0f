//! The smallest application that carries the job queue.

use rocket_jobqueue::JobOptions;

#[rocket::launch]
fn rocket() -> _ {
    rocket::build().manage(JobOptions::default())
}
