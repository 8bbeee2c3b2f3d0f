//! What a viewer learns of a job whose payload is redacted: nothing of the payload, by
//! whatever road.

use crate::support::log::Log;

use md5::{Digest, Md5};
use rocket::tokio::io::AsyncReadExt;
use rocket_jobqueue::Progress;

use super::*;

const CANARY: &str = "kanarie-geel-4711";

/// A PIN: a number, of which there are few.
const PIN: u64 = 4_711_337;

/// What a job does with what it knows.
#[derive(Serialize, Deserialize)]
struct Secret {
    token: String,
    pin: u64,
    then: String,
}

impl Job for Secret {
    const TYPE: &'static str = "secret:use";

    fn options() -> JobOptions {
        JobOptions::new().queue("mail").max_retry(3).retention(Duration::from_secs(600))
    }
}

fn secret(then: &str) -> Secret {
    Secret { token: CANARY.to_owned(), pin: PIN, then: then.to_owned() }
}

async fn use_it(job: Secret, context: JobContext) -> Result<String, JobError> {
    context.progress(Progress::new(1, 2).message(format!("with {}", job.token)));
    match job.then.as_str() {
        "fail" => Err(JobError::failed(format!("pin {} was refused", job.pin))),
        "give up" => Err(JobError::give_up(format!("no such token: {:?}", job.token))),
        "panic" => panic!("{} is wrong", job.token.to_uppercase()),
        "stay" => {
            context.cancelled().cancelled().await;
            Err(JobError::failed("stopped"))
        }
        _ => Ok(format!("{} was used", job.token)),
    }
}

/// The answer's head and body. A stream does not end: of it, what comes within a moment.
async fn hear(client: &Client, path: &str) -> (u16, String) {
    let mut request = client.get(path.to_owned());
    request.add_header(Header::new("Role", "operator"));
    request.add_header(Header::new("Accept-Language", "en"));
    let mut response = request.dispatch().await;
    let mut heard = format!("{:?}\n", response.headers()).into_bytes();
    let status = response.status().code;
    let is_stream = response.content_type() == Some(ContentType::EventStream);
    let moment = if is_stream { Duration::from_millis(400) } else { PATIENCE };
    let listening = async { response.read_to_end(&mut heard).await };
    let _ = tokio::time::timeout(moment, listening).await;
    (status, String::from_utf8_lossy(&heard).into_owned())
}

#[tokio::test]
async fn nothing_of_a_redacted_payload_reaches_a_viewer_or_the_log() {
    let (log, _taken) = Log::of_this_thread(tracing::Level::TRACE);
    let hide = |info: &mut rocket_jobqueue::inspect::JobInfo| {
        info.record.payload = Some(br#""redacted""#.to_vec());
    };
    let weekly = Periodic::new("0 3 * * 1", secret("be periodic")).header("token", CANARY);
    let queue = fairing().handle(use_it).periodic(weekly).redact(hide);
    let client = start(queue.set("jobqueue.queues", json!({ "mail": 1 }))).await;
    let queue = client.rocket().state::<JobQueue>().unwrap().clone();
    let mail = rocket_jobqueue::QueueName::new("mail").unwrap();

    let by_pin = rocket_jobqueue::limits::LimitKey::parse("payload.pin").unwrap();
    let limit = rocket_jobqueue::limits::Limit::new("by-pin").key(by_pin).concurrency(100);
    queue.inspector().set_limit(&mail, &limit).await.unwrap();

    let mut secrets = vec![CANARY.to_owned(), CANARY.to_uppercase(), PIN.to_string()];
    let mut ids = Vec::new();
    for then in ["succeed", "fail", "give up", "panic", "stay", "wait"] {
        let payload = serde_json::to_vec(&secret(then)).unwrap();
        secrets.push(Md5::digest(&payload).iter().map(|byte| format!("{byte:02x}")).collect());
        let job = queue
            .enqueue(secret(then))
            .id(then)
            .header("token", CANARY)
            .unique_for(Duration::from_secs(600));
        let job = if then == "wait" { job.delay(Duration::from_secs(600)) } else { job };
        ids.push(job.await.unwrap().id.to_string());
    }
    // Payloads of which the type's own errors would quote a part.
    for (nth, payload) in [
        json!({ "token": "t", "pin": format!("x, expected {CANARY}"), "then": "" }),
        json!({ "token": { CANARY: PIN }, "pin": 1, "then": "" }),
    ]
    .into_iter()
    .enumerate()
    {
        let raw = queue.enqueue_raw("secret:use", Some(payload.to_string().into_bytes()));
        ids.push(raw.queue("mail").id(format!("unfit-{nth}")).await.unwrap().id.to_string());
    }
    queue.enqueue(secret("in a group")).id("grouped").group("g").await.unwrap();
    let settled = |info: &rocket_jobqueue::inspect::JobInfo| match info.record.id.as_str() {
        "stay" => info.progress.is_some(),
        "wait" | "grouped" => true,
        "succeed" => info.record.completed_at.is_some(),
        _ => !info.record.last_error.is_empty(),
    };
    for id in &ids {
        let id = rocket_jobqueue::JobId::new(id).unwrap();
        let began = Instant::now();
        while !settled(&queue.inspector().job(&mail, &id).await.unwrap().unwrap()) {
            assert!(began.elapsed() < PATIENCE, "{id} is not settled");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    let links: Vec<String> = ids
        .iter()
        .map(|id| {
            let id = rocket_jobqueue::JobId::new(id).unwrap();
            queue.status_link(&mail, &id, Duration::from_secs(60))
        })
        .collect();
    let mut paths = links;
    for (_, address) in addresses(client.rocket()).iter().filter(|(by, _)| *by == Method::Get) {
        let path = address.split('?').next().unwrap().strip_prefix(BASE).unwrap();
        let path = path
            .replace("<name>", "mail")
            .replace("<type>", "secret:use")
            .replace("<limit>", "by-pin")
            .replace("<token>", "x")
            .replace("<file..>", "x");
        let path = format!("{BASE}{path}");
        if path.contains("<part>") {
            for part in ["payload", "result", "error", "headers"] {
                let path = path.replace("<part>", part);
                paths.extend(ids.iter().map(|id| path.replace("<id>", &id.replace(' ', "%20"))));
            }
        } else if path.contains("<id>") {
            paths.extend(ids.iter().map(|id| path.replace("<id>", &id.replace(' ', "%20"))));
        } else {
            paths.push(path);
        }
    }
    for query in [
        "/queues/mail/jobs?state=retry",
        "/queues/mail/jobs?state=archived",
        "/queues/mail/jobs?state=completed",
        "/queues/mail/jobs?state=active",
        "/queues/mail/jobs?state=scheduled",
        "/queues/mail/jobs?group=g",
        "/jobs?id=succeed",
        "/ui/queues/mail?state=retry",
        "/ui/queues/mail?state=completed",
        "/ui/queues/mail/group?group=g",
        "/ui/jobs?q=state:archived",
        "/ui/find?id=fail",
    ] {
        paths.push(format!("{BASE}{query}"));
    }
    let mut seen = 0;
    for path in &paths {
        let (status, text) = hear(&client, path).await;
        assert!(!path.contains('<'), "{path} has a part that the test does not know");
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{path} ({status}) has {secret}: {text}");
        }
        seen += usize::from(status == 200);
    }
    assert!(seen > 60, "only {seen} of {} pages were seen", paths.len());
    // What is not shown cannot be searched for.
    for path in ["/queues/mail/jobs?state=retry&search=", "/ui/jobs?q="] {
        let (_, text) = hear(&client, &format!("{BASE}{path}{PIN}")).await;
        assert!(!text.contains("mail/fail"), "{text}");
    }
    let link = queue.status_link(&mail, &ids[0].parse().unwrap(), Duration::from_secs(60));
    let (status, text) = hear(&client, &link).await;
    assert!(status == 200 && text.contains("succeeded") && text.contains("hidden"), "{text}");
    // The log has those that ended, by their names; not what the heartbeat's thread settled,
    // as it does on a busy machine.
    let text = log.text();
    let told = ids.iter().filter(|id| text.contains(id.as_str())).count();
    assert!(told >= 3, "{told}: {text}");
    for secret in &secrets {
        assert!(!text.contains(secret.as_str()), "the log has {secret}: {text}");
    }
    // The application itself sees everything.
    let whole = queue.inspector().job(&mail, &ids[1].parse().unwrap()).await.unwrap().unwrap();
    assert!(whole.record.last_error.contains(&PIN.to_string()));
    assert!(whole.record.unique_key.len() > 32);
}
