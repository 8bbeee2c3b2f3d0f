//! Jobs that nobody can read, with ids that are not text, as another program or a fault
//! leaves them: they end in the archive, can be looked at and acted upon, and keep no
//! other job waiting, however many they are.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::anybody::Anybody;
use crate::support::harness::{Harness, START};
use crate::support::log::Log;
use crate::support::{RedisServer, eventually};
use rocket::http::{Accept, ContentType, Header};
use rocket::local::asynchronous::Client;
use rocket_jobqueue::internals::redis::RedisBroker;
use rocket_jobqueue::internals::{
    Broker, CancelAnswer, Control, Extended, Inspect, PoolSettings, RedisPool, SettleRequest,
    Settled, Topology,
};
use rocket_jobqueue::{
    Clock, Job, JobId, JobQueue, JobRecord, JobState, NewJob, Placement, QueueName,
    handler::{AfterCancel, Transition},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const BASE: &str = "/api/dm-jobqueue";

#[derive(Serialize, Deserialize)]
struct Chore;

impl Job for Chore {
    const TYPE: &'static str = "unreadable:chore";
}

async fn application(server: &RedisServer, worker: bool, runs: Arc<AtomicUsize>) -> Client {
    serving(server, worker, runs, &[QueueName::new("default").unwrap()]).await
}

async fn serving(
    server: &RedisServer,
    worker: bool,
    runs: Arc<AtomicUsize>,
    queues: &[QueueName],
) -> Client {
    let weights: serde_json::Map<_, _> =
        queues.iter().map(|queue| (queue.to_string(), 1.into())).collect();
    let chore = move |_: Chore| {
        let runs = runs.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(())
        }
    };
    let queue = JobQueue::fairing()
        .admin_guard::<Anybody>()
        .set("databases.jobqueue.url", format!("redis://{}", server.addr()))
        .set("jobqueue.worker", worker)
        .set("jobqueue.queues", Value::Object(weights))
        .set("jobqueue.log_to_stderr", false)
        .handle(chore);
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    Client::untracked(rocket::custom(figment).attach(queue)).await.expect("it launches")
}

/// This many running jobs whose leases ended long ago, and a good one whose lease ended
/// after theirs.
async fn abandon(server: &RedisServer, entry: &str, number: usize) {
    let client = application(server, false, Arc::default()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(Chore).id("good").await.unwrap();
    client.terminate().await;
    let script = format!(
        "local Q = 'asynq:{{default}}:'
         for n = 1, {number} do
             local id = '\\255\\254-' .. n
             redis.call('LPUSH', Q .. 'active', id)
             redis.call('ZADD', Q .. 'lease', n % 2 == 0 and 1000 + n or 1000.5 + n, id)
             {entry}
         end
         redis.call('DEL', Q .. 'pending')
         redis.call('LPUSH', Q .. 'active', 'good')
         redis.call('ZADD', Q .. 'lease', '100000.5', 'good')
         redis.call('HSET', Q .. 't:good', 'state', 'active', 'x_owner', '7')
         return 'ok'"
    );
    assert_eq!(server.cli(&["EVAL", &script, "0"]), "ok");
}

#[tokio::test]
async fn unreadable_jobs_keep_no_other_from_recovery() {
    let log = Log::of_this_process();
    let server = RedisServer::start::<&str>(&[]);
    abandon(&server, "redis.call('HSET', Q .. 't:' .. id, 'msg', '\\255', 'state', 'active')", 765)
        .await;
    let runs = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let client = application(&server, true, Arc::clone(&runs)).await;

    let recovered = eventually(PATIENCE, || async { runs.load(Ordering::SeqCst) == 1 }).await;
    println!("recovered behind 765 unreadable jobs after {:.1?}", began.elapsed());
    assert!(recovered, "{}", server.cli(&["ZCARD", "asynq:{default}:lease"]));

    let left = || async {
        server.cli(&["EXISTS", "asynq:{default}:active", "asynq:{default}:lease"]) == "0"
    };
    assert!(eventually(PATIENCE, left).await);
    assert_eq!(server.cli(&["ZCARD", "asynq:{default}:archived"]), "765");
    // Each was archived once, and said so once.
    let told = log.lines(&["archived jobs whose messages are unreadable", "%FF%FE-"]);
    let jobs = |line: &String| {
        let number = line.split("jobs=").nth(1)?.split(' ').next()?;
        number.parse::<usize>().ok()
    };
    assert_eq!(told.iter().filter_map(jobs).sum::<usize>(), 765, "{told:#?}");
    assert!(log.lines(&["could not archive", "%FF%FE-"]).is_empty());
    client.terminate().await;
}

#[tokio::test]
async fn entries_without_a_job_keep_no_other_from_recovery() {
    let server = RedisServer::start::<&str>(&[]);
    // Half of them have remains without a message, the others belong to another program.
    let entry = "if n % 2 == 0 then redis.call('HSET', Q .. 't:' .. id, 'state', 'active')
                 else redis.call('SET', Q .. 't:' .. id, 'text') end";
    abandon(&server, entry, 1500).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let client = application(&server, true, Arc::clone(&runs)).await;

    let recovered = eventually(PATIENCE, || async { runs.load(Ordering::SeqCst) == 1 }).await;
    println!("recovered behind 1500 entries of no job after {:.1?}", began.elapsed());
    assert!(recovered, "{}", server.cli(&["ZCARD", "asynq:{default}:lease"]));
    // The first round comes at once; page by page with a pause it would take minutes.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    client.terminate().await;
}

struct Site {
    client: Client,
}

impl Site {
    async fn get(&self, path: &str) -> (u16, String) {
        let request = self.client.get(format!("{BASE}{path}"));
        let answer = request.header(Accept::JSON).dispatch().await;
        (answer.status().code, answer.into_string().await.unwrap_or_default())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn page(&self, path: &str) -> String {
        let request = self.client.get(format!("{BASE}{path}")).header(Accept::HTML);
        let answer = request.dispatch().await;
        assert_eq!(answer.status().code, 200, "{path}");
        answer.into_string().await.unwrap()
    }

    async fn post(&self, path: &str) -> u16 {
        let request = self.client.post(format!("{BASE}{path}")).header(ContentType::JSON);
        request.body("{}").dispatch().await.status().code
    }
}

/// An id with all that makes an id hard: no UTF-8, a line break, a percent sign, a
/// slash, a space at its end.
const ODD: &[u8] = b"\xff\n50%41/x ";
const SHOWN: &str = "%FF%0A50%2541/x%20";
/// In a URL.
const PATH: &str = "%25FF%250A50%252541%2Fx%2520";

/// The same id as the text of a Lua literal.
const IN_LUA: &str = "'\\255\\n50%41/x '";

#[tokio::test]
async fn a_job_whose_id_is_not_text_is_seen_and_acted_upon_by_its_printable_form() {
    let server = RedisServer::start::<&str>(&[]);
    let client = application(&server, false, Arc::default()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(Chore).id("seed").await.unwrap();
    let script = format!(
        "local Q, id = 'asynq:{{default}}:', {IN_LUA}
         redis.call('HSET', Q .. 't:' .. id, 'msg', redis.call('HGET', Q .. 't:seed', 'msg'),
             'state', 'archived')
         redis.call('ZADD', Q .. 'archived', 4000000000, id)
         redis.call('HSET', Q .. 't:\\254', 'msg', '\\255', 'state', 'archived')
         redis.call('ZADD', Q .. 'archived', 4000000001, '\\254')
         return 'ok'"
    );
    assert_eq!(server.cli(&["EVAL", &script, "0"]), "ok");
    let site = Site { client };
    let state = |id: &str| {
        let get = format!("return redis.call('HGET', 'asynq:{{default}}:t:' .. {id}, 'state')");
        server.cli(&["EVAL", &get, "0"])
    };

    let listed = site.json("/queues/default/jobs?state=archived").await;
    let rows = listed["rows"].as_array().unwrap();
    assert_eq!((&rows[0]["id"], &rows[1]["id"]), (&SHOWN.into(), &"%FE".into()), "{listed}");
    let one = site.json(&format!("/jobs/default/{PATH}")).await;
    assert_eq!(one["id"], SHOWN);
    let found = site.json(&format!("/jobs?id={PATH}")).await;
    assert_eq!(found["jobs"][0]["id"], SHOWN);
    let found = site.json("/queues/default/jobs?state=archived&search=%25FF%250A50").await;
    assert_eq!(found["rows"].as_array().unwrap().len(), 1, "{found}");
    for page in ["/ui/queues/default?state=archived", "/ui/jobs?q=state:archived"] {
        let page = site.page(page).await;
        assert!(page.contains(&format!("/ui/jobs/default/{PATH}")), "{page}");
        assert!(page.contains("/ui/jobs/default/%25FE"), "{page}");
    }
    assert!(site.page(&format!("/ui/jobs/default/{PATH}")).await.contains(SHOWN));

    // One by its path, then the same by the box of a page.
    assert_eq!(site.post(&format!("/jobs/default/{PATH}/run")).await, 204);
    assert_eq!(state(IN_LUA), "pending");
    let named: JobId = SHOWN.parse().unwrap();
    assert_eq!(named.as_bytes(), ODD);
    let form = format!("action=archive&sure=1&job=default/{PATH}").replace('%', "%25");
    let request = site
        .client
        .post(format!("{BASE}/ui/jobs/act"))
        .header(ContentType::Form)
        .header(Header::new("Sec-Fetch-Site", "same-origin"));
    let status = request.body(form).dispatch().await.status().code;
    assert!(status < 400, "{status}");
    assert_eq!(state(IN_LUA), "archived");
    assert_eq!(site.post(&format!("/jobs/default/{PATH}/duplicate")).await, 201);

    // A link to its status.
    let queue = site.client.rocket().state::<JobQueue>().unwrap();
    let default = QueueName::new("default").unwrap();
    let link = queue.status_link(&default, &named, Duration::from_secs(60));
    let link = &link[link.find("/status/").unwrap()..];
    assert_eq!(site.json(link).await["status"], "failed");

    // What nobody can read is deleted all the same.
    let request =
        site.client.delete(format!("{BASE}/jobs/default/%25FE")).header(ContentType::JSON);
    assert_eq!(request.dispatch().await.status().code, 204);
    assert_eq!(state("'\\254'"), "");
    let (status, body) = site.get("/jobs/default/%25FE").await;
    assert!(status == 404 && !body.contains('\u{fffd}'), "{body}");
    site.client.terminate().await;
}

fn done() -> Transition {
    Transition::Complete { result: None }
}

#[tokio::test]
async fn a_job_in_line_behind_unreadable_ones_comes_with_the_same_call() {
    let on = Harness::start();
    on.eval(
        "for n = 1, 250 do
             redis.call('HSET', Q .. 't:\\255' .. n, 'msg', '\\255', 'state', 'pending')
             redis.call('LPUSH', Q .. 'pending', '\\255' .. n)
         end",
    );
    on.broker.enqueue(&[on.job("good")]).await.unwrap();

    let taken = on.take_many(10).await;

    let ids: Vec<&str> = taken.iter().map(|one| one.job.id.as_str()).collect();
    assert_eq!(ids, ["good"]);
    assert_eq!(on.eval("return redis.call('ZCARD', Q .. 'archived')"), "250");
    assert_eq!(on.eval("return redis.call('LLEN', Q .. 'active')"), "1");
}

/// Of another type: its hash, and what its message names as its unique lock.
#[tokio::test]
async fn a_running_job_that_was_damaged_holds_no_other_up() {
    let on = Harness::start();
    let names = ["hash", "lock", "good", "kept"];
    let mut jobs: Vec<NewJob> = names.map(|name| on.job(name)).into();
    jobs[1].record.unique_key = "asynq:{default}:active".to_owned();
    jobs[3].record.retention = Duration::from_secs(60);
    on.broker.enqueue(&jobs).await.unwrap();
    let taken = on.take_many(9).await;
    assert_eq!(taken.len(), 4);
    on.eval("redis.call('SET', Q .. 't:hash', 'text')");

    let leases: Vec<_> = taken.iter().map(|one| one.lease.clone()).collect();
    let extended = on.broker.extend(&leases).await.unwrap();
    assert!(matches!(extended[0], Extended::Lost), "{extended:?}");
    assert!(extended[1..].iter().all(|one| matches!(one, Extended::Renewed(_))), "{extended:?}");
    let ended: Vec<_> = taken.into_iter().map(|one| SettleRequest::from((one, done()))).collect();
    let settled = on.broker.settle(&ended).await.unwrap();

    // The lease is still its worker's, whatever has become of the hash.
    assert_eq!(settled, [Settled::Done; 4]);
    assert_eq!(on.eval("return redis.call('GET', Q .. 'processed')"), "4");
}

#[tokio::test]
async fn an_entry_of_another_type_holds_no_due_job_up() {
    let on = Harness::start();
    let later = |name| on.job(name).placed(Placement::After(Duration::from_secs(1)));
    on.broker.enqueue(&[later("odd"), later("good")]).await.unwrap();
    on.eval("redis.call('DEL', Q .. 't:odd') redis.call('SET', Q .. 't:odd', 'text')");
    on.clock.advance(Duration::from_secs(2));

    let forwarded = on.broker.forward(&on.queue, 10).await.unwrap();

    assert_eq!((forwarded.moved, forwarded.next), (1, None));
    assert_eq!(on.eval("return redis.call('LRANGE', Q .. 'pending', 0, -1)"), "good");
    assert_eq!(on.eval("return redis.call('GET', Q .. 't:odd')"), "text", "somebody else's");
}

/// What cannot be counted stops nothing, and is not written over, whichever script it is.
#[tokio::test]
async fn a_counter_that_is_none_stops_no_job_from_ending() {
    for (spoil, left) in [
        ("redis.call('RPUSH', Q .. 'processed', 'x')", "list"),
        ("redis.call('SET', Q .. 'processed', 'many')", "many"),
        ("redis.call('SET', Q .. 'processed', '9223372036854775807')", "1"),
    ] {
        for together in [false, true] {
            let on = Harness::start();
            on.broker.enqueue(&[on.job("a")]).await.unwrap();
            let ended: Vec<_> = on
                .take_many(1)
                .await
                .into_iter()
                .map(|one| SettleRequest::from((one, done())))
                .collect();
            on.eval(spoil);

            // The fast script removes and takes; the general one also only removes.
            let queues = [on.queue.clone()];
            let settled = match together {
                true => {
                    on.broker.exchange(&[&ended[0]], &queues, 1).await.settled.remove(0).unwrap()
                }
                false => on.broker.settle(&ended).await.unwrap()[0],
            };

            assert_eq!(settled, Settled::Done, "{spoil} {together}");
            let found = on.eval(
                "local kind = redis.call('TYPE', Q .. 'processed').ok
                 return kind == 'string' and redis.call('GET', Q .. 'processed') or kind",
            );
            assert_eq!(found, left, "{spoil} {together}");
            assert_eq!(on.eval("return redis.call('EXISTS', Q .. 't:a', Q .. 'active')"), "0");
        }
    }
}

/// From pending to its end, with all that is asked meanwhile.
#[tokio::test]
async fn a_job_whose_id_is_not_text_runs_as_any_other() {
    let Harness { server, broker, clock, queue } = Harness::start();
    let id: JobId = SHOWN.parse().unwrap();
    // The message has no id, or another one: the id in the key counts.
    let script = format!(
        "local Q, id = 'asynq:{{default}}:', {IN_LUA}
         redis.call('HSET', Q .. 't:' .. id, 'msg', '\\10\\4mail\\26\\1x\\64\\226\\255\\255\\255\\255\\255\\255\\255\\255\\1',
             'state', 'pending')
         redis.call('LPUSH', Q .. 'pending', id)
         return 'ok'"
    );
    assert_eq!(server.cli(&["EVAL", &script, "0"]), "ok");
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let other = broker.detached();
    let hearing = tokio::spawn(async move {
        let heard = move |id: &str| heard.send(id.to_owned()).unwrap_or_default();
        other.hear_cancels(Arc::new(heard)).await;
    });
    let subscribed = || async { server.cli(&["PUBSUB", "NUMSUB", "asynq:cancel"]).ends_with('1') };
    assert!(eventually(PATIENCE, subscribed).await);

    for retried in 0..3 {
        let queues = [queue.clone()];
        let delivery = broker.dequeue(&queues, 9).await.unwrap().deliveries.pop().unwrap();
        assert_eq!((&delivery.job.id, delivery.job.retried), (&id, retried));
        let error = "smtp is down".to_owned();
        let after = Duration::from_secs(1);
        let retry = Transition::Retry { after, error, counted: true };
        broker.settle(&[(delivery, retry).into()]).await.unwrap();
        clock.advance(Duration::from_secs(2));
        assert_eq!(broker.forward(&queue, 9).await.unwrap().moved, 1);
    }
    // `timeout` -30, as it came.
    let hex = format!(
        "return (string.gsub(redis.call('HGET', 'asynq:{{default}}:t:' .. {IN_LUA}, 'msg'), '.', \
         function(c) return string.format('%02x', string.byte(c)) end))"
    );
    let message = server.cli(&["EVAL", &hex, "0"]);
    assert!(message.contains("40e2ffffffffffffffff01"), "{message}");
    assert!(message.contains("1a0aff0a35302534312f7820"), "its id: {message}");

    let queues = [queue.clone()];
    let delivery = broker.dequeue(&queues, 9).await.unwrap().deliveries.pop().unwrap();
    let asked = broker.cancel(&queue, &id, AfterCancel::Archive).await.unwrap();
    assert_eq!(asked, CancelAnswer::Requested);
    assert_eq!(hears.recv().await.as_deref(), Some(SHOWN));
    let extended = broker.extend(std::slice::from_ref(&delivery.lease)).await.unwrap();
    assert!(matches!(extended[..], [Extended::Cancelled(_, AfterCancel::Archive)]));
    assert!(broker.job(&queue, &id).await.unwrap().unwrap().cancelling.is_some());
    hearing.abort();
}

/// A line break, the beginning of a line, an escape sequence and a mark that turns the
/// direction, as other programs may put them into names.
const FORGED: &str = "x\nFORGED \u{1b}[2J\u{202e}\u{2028}";

#[tokio::test]
async fn what_another_program_stored_forges_no_line_of_the_log() {
    let log = Log::of_this_process();
    let server = RedisServer::start::<&str>(&[]);
    let client = application(&server, true, Arc::default()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(Chore).id("seed").delay(Duration::from_secs(600)).await.unwrap();
    let lua = FORGED.bytes().map(|byte| format!("\\{byte:03}")).collect::<String>();
    // An entry of a Go scheduler: id, spec, type.
    let field = |tag: u8, text: &str| format!("\\{tag:03}\\{:03}{text}", text.len());
    let length = FORGED.len();
    let entry = format!("\\010\\{length:03}{lua}{}{}", field(18, "@every 1h"), field(26, "go:x"));
    let script = format!(
        "local Q, id = 'asynq:{{default}}:', '{lua}'
         redis.call('HSET', Q .. 't:' .. id, 'msg', '\\255', 'state', 'pending')
         redis.call('LPUSH', Q .. 'pending', id)
         redis.call('SADD', 'asynq:queues', id)
         redis.call('SET', 'asynq:{{' .. id .. '}}:pending', 'text')
         redis.call('SET', 'asynq:{{' .. id .. '}}:scheduled', 'text')
         redis.call('ZADD', 'asynq:schedulers', 4000000000, 'asynq:schedulers:{{go}}')
         redis.call('RPUSH', 'asynq:schedulers:{{go}}', '{entry}')
         return 'ok'"
    );
    assert_eq!(server.cli(&["EVAL", &script, "0"]), "ok");
    let told = |words: &'static [&'static str]| {
        let log = log.clone();
        move || {
            let lines = log.lines(words);
            async move { !lines.is_empty() }
        }
    };
    assert!(eventually(PATIENCE, told(&["messages are unreadable", "FORGED"])).await);
    let site = Site { client };
    for page in ["/ui", "/ui/jobs", "/ui/scheduled", "/ui/groups", "/ui/periodic", "/ui/doctor"] {
        site.page(page).await;
    }
    site.get("/queues").await;
    let escaped = rocket::http::RawStr::new(FORGED).percent_encode().to_string();
    assert_eq!(site.post(&format!("/periodic/{escaped}/run")).await, 201);
    assert_eq!(site.post(&format!("/jobs/default/{escaped}/duplicate")).await, 409);
    assert!(!log.lines(&["rocket_jobqueue::audit", "FORGED"]).is_empty());
    assert!(!log.lines(&["cannot list", "FORGED"]).is_empty());
    let text = log.text();
    for c in ['\u{1b}', '\r', '\u{202e}', '\u{2028}'] {
        assert!(!text.contains(c), "{c:?}");
    }
    for line in text.lines().filter(|line| line.contains("FORGED")) {
        println!("{line}");
        assert!(line.starts_with("20"), "{line}");
    }
    site.client.terminate().await;
}

/// In an address, as pages write it.
fn in_path(text: &str) -> String {
    rocket::http::RawStr::new(text).percent_encode().to_string()
}

#[tokio::test]
async fn ids_that_no_path_can_hold_have_pages_and_actions() {
    let server = RedisServer::start::<&str>(&[]);
    let client = application(&server, false, Arc::default()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    queue.enqueue(Chore).id("seed").delay(Duration::from_secs(3600)).await.unwrap();
    let long = "x".repeat(600);
    let longer = "\u{65e5}".repeat(4_000);
    let longest = "\n".repeat(9_000);
    let ids = ["a\tb\nc\r", ".", "..", "../..", "/", "?a#b", " ", "\u{202e}\u{200b}x", "50%41"];
    let ids = ids.into_iter().chain([&*long, &*longer, &*longest]);
    for (nth, id) in ids.clone().enumerate() {
        let lua = id.bytes().map(|byte| format!("\\{byte:03}")).collect::<String>();
        let script = format!(
            "local Q, id = 'asynq:{{default}}:', '{lua}'
             redis.call('HSET', Q .. 't:' .. id, 'msg', redis.call('HGET', Q .. 't:seed', 'msg'),
                 'state', 'archived')
             redis.call('ZADD', Q .. 'archived', {}, id)
             return 'ok'",
            START + nth as i64
        );
        // As a file: such an id is too long for an argument.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(script.as_bytes()).unwrap();
        assert_eq!(server.cli(&["--eval", file.path().to_str().unwrap()]), "ok");
    }
    let site = Site { client };
    let listed = site.page("/ui/queues/default?state=archived").await;
    assert!(!listed.contains('\u{202e}') && !listed.contains('\u{200b}'));
    let rows = site.json("/queues/default/jobs?state=archived").await;
    let rows: Vec<_> = rows["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), ids.clone().count());
    for (row, id) in rows.iter().zip(ids) {
        let shown = row["id"].as_str().unwrap();
        let named: JobId = shown.parse().unwrap();
        assert_eq!(named.as_bytes(), id.as_bytes());
        let what: String = shown.chars().take(40).collect();
        // The link of the list, which no browser shortens or changes.
        let path = in_path(shown);
        let link = format!("/ui/jobs/default/{path}");
        assert!(listed.contains(&format!("href=\"{BASE}{link}\"")), "{what}");
        for segment in link.to_lowercase().replace("%2e", ".").split('/') {
            assert!(!matches!(segment, "." | ".."), "{what}");
        }
        let page = site.page(&link).await;
        assert!(page.contains(&format!("action=\"{BASE}{link}/run\"")), "{what}");
        assert_eq!(site.json(&format!("/jobs/default/{path}")).await["id"], shown, "{what}");
        assert_eq!(site.json(&format!("/jobs?id={path}")).await["jobs"][0]["id"], shown, "{what}");
        let request = site
            .client
            .post(format!("{BASE}{link}/run"))
            .header(ContentType::Form)
            .header(Header::new("Sec-Fetch-Site", "same-origin"));
        let response = request.dispatch().await;
        assert_eq!(response.status().code, 303, "{what}");
        let next = response.headers().get_one("Location").unwrap().to_owned();
        drop(response);
        let next = next.strip_prefix(BASE).unwrap();
        assert!(site.page(next).await.contains("待機中"), "{what}");
        assert_eq!(site.post(&format!("/jobs/default/{path}/archive")).await, 204, "{what}");
        let link = site.client.rocket().state::<JobQueue>().unwrap().status_link(
            &QueueName::new("default").unwrap(),
            &named,
            Duration::from_secs(60),
        );
        let link = link.strip_prefix(BASE).unwrap().to_owned();
        assert_eq!(site.json(&link).await["status"], "failed", "{what}");
        let delete = site.client.delete(format!("{BASE}/jobs/default/{path}"));
        let deleted = delete.header(ContentType::JSON).dispatch().await.status().code;
        assert_eq!(deleted, 204, "{what}");
    }
    assert_eq!(server.cli(&["ZCARD", "asynq:{default}:archived"]), "0");
}

/// Queues as a Go program may name them.
const FOREIGN: [&str; 8] =
    ["{", "a}b", "mail box", "日本語", "..", "a\n\u{202e}b", "50%41", "*?[x]"];

#[tokio::test]
async fn queues_with_names_that_we_refuse_are_seen_drained_and_deleted() {
    let server = RedisServer::start::<&str>(&[]);
    let topology = Topology::Single(server.addr());
    let pool = RedisPool::new(PoolSettings { topology, ..PoolSettings::default() }).unwrap();
    let broker = RedisBroker::new(pool, Clock::system());
    let names: Vec<QueueName> =
        FOREIGN.iter().map(|name| name.replace('%', "%25").parse().unwrap()).collect();
    for (name, raw) in names.iter().zip(FOREIGN) {
        assert_eq!(name.as_str(), raw);
        for _ in 0..2 {
            let job = JobRecord::new("unreadable:chore", Some(b"null".to_vec()), name.clone());
            broker.enqueue(&[NewJob::now(job)]).await.unwrap();
        }
    }
    let client = application(&server, false, Arc::default()).await;
    let queue = client.rocket().state::<JobQueue>().unwrap();
    assert!(queue.enqueue(Chore).queue("a}b").await.unwrap_err().is_invalid());
    let site = Site { client };
    let overview = site.page("/ui").await;
    let found = site.page("/ui/jobs").await;
    assert!(!overview.contains('\u{202e}') && !found.contains('\u{202e}'));
    for name in &names {
        let path = in_path(&format!("{name}"));
        assert!(overview.contains(&format!("href=\"{BASE}/ui/queues/{path}\"")), "{name}");
        assert!(found.contains(&format!("href=\"{BASE}/ui/jobs/{path}/")), "{name}");
        for page in ["", "?state=archived", "?state=aggregating", "?state=pending"] {
            site.page(&format!("/ui/queues/{path}{page}")).await;
        }
        assert_eq!(site.json(&format!("/queues/{path}")).await["size"], 2, "{name}");
        assert_eq!(site.post(&format!("/queues/{path}/pause")).await, 204, "{name}");
        assert_eq!(site.json(&format!("/queues/{path}")).await["paused"], true, "{name}");
        assert_eq!(site.post(&format!("/queues/{path}/resume")).await, 204, "{name}");
        let jobs = site.json(&format!("/queues/{path}/jobs")).await;
        let id = jobs["rows"][0]["id"].as_str().unwrap();
        site.page(&format!("/ui/jobs/{path}/{id}")).await;
        let words = format!("/ui/jobs?q={}", in_path(&format!("queue:\"{name}\" state:pending")));
        assert!(site.page(&words).await.contains(id), "{name}");
        assert_eq!(site.post(&format!("/jobs/{path}/{id}/archive")).await, 204, "{name}");
        assert_eq!(site.post(&format!("/jobs/{path}/{id}/run")).await, 204, "{name}");
    }
    site.client.terminate().await;

    // A worker is told to serve them.
    let runs = Arc::new(AtomicUsize::new(0));
    let client = serving(&server, true, Arc::clone(&runs), &names).await;
    let all = 2 * names.len();
    let drained = eventually(PATIENCE, || async { runs.load(Ordering::SeqCst) == all }).await;
    assert!(drained, "{} of {all}", runs.load(Ordering::SeqCst));
    let site = Site { client };
    site.page("/ui/servers").await;
    for name in &names {
        let path = in_path(&format!("{name}"));
        let empty = || async {
            let sizes = site.json(&format!("/queues/{path}")).await;
            sizes["size"] == 0
        };
        assert!(eventually(PATIENCE, empty).await, "{name}");
    }
    site.client.terminate().await;
    let site = Site { client: application(&server, false, Arc::default()).await };
    for name in &names {
        let path = in_path(&format!("{name}"));
        let delete = site.client.delete(format!("{BASE}/queues/{path}?force=true"));
        let deleted = delete.header(ContentType::JSON).dispatch().await.status().code;
        assert_eq!(deleted, 204, "{name}");
    }
    let left = site.json("/queues").await;
    let left: Vec<_> = left["queues"].as_array().unwrap().iter().map(|row| &row["queue"]).collect();
    assert!(left.iter().all(|name| *name == "default"), "{left:?}");
}

/// Asynq 0.17 wrote the message, as JSON, where later versions have the id.
#[tokio::test]
async fn an_entry_of_asynq_0_17_is_archived_with_its_payload_and_a_line() {
    let log = Log::of_this_process();
    let Harness { server, broker, queue, .. } = Harness::start();
    let message = |id: &str| {
        format!(
            r#"{{"Type":"mail:old","Payload":{{"user":12345678901234567890123,"a":1e2}},"ID":"{id}","Queue":"default","Retry":25,"Retried":2,"ErrorMsg":"smtp","Timeout":60,"Deadline":0,"UniqueKey":""}}"#
        )
    };
    let ids = ["0a1b2c3d-0000-4000-8000-000000000001", "0a1b2c3d-0000-4000-8000-000000000002"];
    server.cli(&["ZADD", "asynq:{default}:scheduled", "1000", &message(ids[0])]);
    server.cli(&["ZADD", "asynq:{default}:retry", "1000", &message(ids[1])]);
    server.cli(&["ZADD", "asynq:{default}:retry", "1000", "no-such-job"]);
    assert_eq!(broker.forward(&queue, 9).await.unwrap().moved, 0);

    for (id, error) in ids.iter().zip(["smtp", "smtp"]) {
        let info = broker.job(&queue, &id.parse().unwrap()).await.unwrap().expect("it is kept");
        assert_eq!((info.state, info.record.job_type.as_str()), (JobState::Archived, "mail:old"));
        let payload = String::from_utf8(info.record.payload.unwrap()).unwrap();
        assert_eq!(payload, r#"{"user":12345678901234567890123,"a":1e2}"#);
        assert_eq!((info.record.max_retry, info.record.retried), (25, 2));
        assert_eq!((info.record.last_error.as_str(), info.record.timeout.as_secs()), (error, 60));
    }
    assert_eq!(log.lines(&["archived jobs that an Asynq before 0.18 wrote", "jobs=2"]).len(), 1);

    // Active: its worker is gone, and it has no lease.
    server.cli(&["LPUSH", "asynq:{default}:active", &message("active")]);
    assert_eq!(broker.expired_leases(&queue, 9, 0).await.unwrap().jobs, []);
    let info = broker.job(&queue, &"active".parse().unwrap()).await.unwrap().expect("it is kept");
    assert_eq!((info.state, info.record.max_retry), (JobState::Archived, 25));
    assert_eq!(server.cli(&["LLEN", "asynq:{default}:active"]), "0");
    assert_eq!(log.lines(&["archived jobs that an Asynq before 0.18 wrote", "jobs=1"]).len(), 1);

    // Pending, by the fast script and by the general one.
    for (together, name) in [(false, "fast"), (true, "general")] {
        server.cli(&["LPUSH", "asynq:{default}:pending", &message(name), "gone"]);
        let before: usize = server.cli(&["ZCARD", "asynq:{default}:archived"]).parse().unwrap();
        if together {
            broker.enqueue(&[NewJob::now(JobRecord::new("x", None, queue.clone()))]).await.unwrap();
            let one = broker.dequeue(std::slice::from_ref(&queue), 1).await.unwrap().deliveries;
            let retry = Transition::Archive { error: "x".to_owned() };
            let ended: Vec<_> =
                one.into_iter().map(|one| SettleRequest::from((one, retry.clone()))).collect();
            broker.exchange(&[&ended[0]], std::slice::from_ref(&queue), 9).await.dequeued.unwrap();
        } else {
            let taken = broker.dequeue(std::slice::from_ref(&queue), 9).await.unwrap();
            assert!(taken.deliveries.is_empty());
        }
        let after: usize = server.cli(&["ZCARD", "asynq:{default}:archived"]).parse().unwrap();
        assert!(after > before, "{name}: {before}, {after}");
        let kept: JobId = name.parse().unwrap();
        let info = broker.job(&queue, &kept).await.unwrap().expect("it is kept");
        assert_eq!(info.record.job_type, "mail:old");
        // A line for each fate.
        let first = format!("first={name}");
        let archived = log.lines(&["archived jobs that an Asynq before 0.18 wrote", &first]);
        assert_eq!(archived.len(), 1, "{name}: {archived:?}");
        let dropped = log.lines(&["dropped pending entries that have no job", "entries=1"]);
        assert_eq!(dropped.len(), if together { 2 } else { 1 }, "{name}: {dropped:?}");
    }
}
