//! The smallest application with a job queue. Run it, then:
//!
//! ```sh
//! curl -X POST http://localhost:8000/sign-up/7
//! ```
//!
//! Jobs are kept in the memory of this process. Remove `.memory()` to keep them in Redis at
//! `localhost:6379`.

use std::time::Duration;

use rocket::{launch, post, routes};
use rocket_jobqueue::{Error, Job, JobQueue};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Welcome {
    user: u64,
}

impl Job for Welcome {
    const TYPE: &'static str = "mail:welcome";
}

async fn send_welcome(job: Welcome) -> Result<(), Error> {
    println!("welcome, user {}", job.user);
    Ok(())
}

#[post("/sign-up/<user>")]
async fn sign_up(user: u64, queue: &JobQueue) -> Result<String, Error> {
    let receipt = queue.enqueue(Welcome { user }).delay(Duration::from_secs(2)).await?;
    Ok(format!("job {}\n", receipt.id))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(JobQueue::fairing().memory().handle(send_welcome))
        .mount("/", routes![sign_up])
}
