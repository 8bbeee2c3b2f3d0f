//! The operator: looks and acts through REST, over and over. None of its actions
//! removes a job.

use std::sync::Arc;
use std::time::Duration;

use rocket::http::{ContentType, Status};
use rocket::local::asynchronous::Client;
use rocket::request::{FromRequest, Outcome, Request};

use super::ledger::Ledger;
use super::settings::Settings;

const BETWEEN: Duration = Duration::from_millis(100);
const STATES: [&str; 6] = ["pending", "active", "scheduled", "retry", "archived", "completed"];

/// Nobody else can ask this application: it listens nowhere.
struct Operator;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Operator {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Success(Self)
    }
}

/// Until it is killed or the harness ends.
pub async fn run(settings: &Settings, ledger: &Arc<Ledger>) -> Result<(), String> {
    super::end_with_the_harness();
    let rocket = super::application(settings, super::fairing(settings).admin_guard::<Operator>());
    let client = Client::untracked(rocket).await.map_err(|error| error.to_string())?;
    ledger.line("U");
    let base = "/api/dm-jobqueue";
    let retry = r#"{"action":"run","state":"retry"}"#;
    loop {
        for queue in &settings.load.queues {
            let of = format!("{base}/queues/{queue}");
            for state in STATES {
                let path = format!("{of}/jobs?state={state}&size=100");
                look(&client, ledger, &path).await;
            }
            act(&client, ledger, &format!("{of}/pause"), "").await;
            tokio::time::sleep(BETWEEN).await;
            act(&client, ledger, &format!("{of}/resume"), "").await;
            act(&client, ledger, &format!("{of}/actions"), retry).await;
        }
        look(&client, ledger, &format!("{base}/queues")).await;
        act(&client, ledger, &format!("{base}/doctor/repair"), "").await;
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Notes a page's answer, and each row that is not a whole job.
async fn look(client: &Client, ledger: &Ledger, path: &str) {
    let answer = client.get(path).dispatch().await;
    let status = answer.status();
    let body = answer.into_string().await.unwrap_or_default();
    let damaged = body.contains("\"row\":\"broken\"");
    note(ledger, path, status, damaged);
}

async fn act(client: &Client, ledger: &Ledger, path: &str, body: &str) {
    let request = client.post(path).header(ContentType::JSON).body(body);
    let answer = request.dispatch().await;
    note(ledger, path, answer.status(), false);
}

fn note(ledger: &Ledger, path: &str, status: Status, damaged: bool) {
    let damaged = if damaged { " damaged" } else { "" };
    ledger.line(&format!("O {path} {}{damaged}", status.code));
}
