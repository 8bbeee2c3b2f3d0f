//! What clients that look at the queue, wait for a job or follow one may use of the store and
//! of the process: measured at a real server, by real connections that hang up.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rocket_jobqueue::{Job, JobOptions, JobQueue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::anybody::Anybody;
use support::{RedisServer, eventually, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BASE: &str = "/api/dm-jobqueue";
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
struct Large(String);

impl Job for Large {
    const TYPE: &'static str = "large";

    fn options() -> JobOptions {
        JobOptions::new().delay(Duration::from_secs(3600))
    }
}

/// An application that listens, and runs no jobs: what reaches Redis is asked for by HTTP,
/// or by the probe of its health.
struct Site {
    redis: RedisServer,
    queue: JobQueue,
    port: u16,
    shutdown: rocket::Shutdown,
}

impl Site {
    async fn open() -> Self {
        let (redis, port) = (RedisServer::start::<&str>(&[]), free_port());
        let figment = rocket::Config::figment()
            .merge(("log_level", "off"))
            .merge(("port", port))
            .merge(("shutdown.ctrlc", false))
            .merge(("databases.jobqueue.url", format!("redis://{}", redis.addr())))
            .merge(("jobqueue.worker", false));
        let fairing = JobQueue::fairing().environment("staging").admin_guard::<Anybody>();
        let rocket = rocket::custom(figment).attach(fairing).ignite().await.unwrap();
        let queue = rocket.state::<JobQueue>().unwrap().clone();
        let shutdown = rocket.shutdown();
        tokio::spawn(rocket.launch());
        let site = Self { redis, queue, port, shutdown };
        let listens = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        assert!(eventually(PATIENCE, listens).await);
        assert!(eventually(PATIENCE, async || site.queue.ready().await).await);
        site
    }

    /// A request that is on its way.
    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Status and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// How many scripts Redis has run.
    fn scripts(&self) -> u64 {
        self.calls("evalsha")
    }

    /// How often Redis has run this command.
    fn calls(&self, command: &str) -> u64 {
        let text = self.redis.cli(&["INFO", "commandstats"]);
        let begin = format!("cmdstat_{command}:calls=");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Every command that Redis runs from now on, those of scripts with `lua` before them.
    async fn monitor(&self) -> impl futures_util::Stream<Item = String> + Unpin + use<> {
        let client = redis::Client::open(format!("redis://{}", self.redis.addr())).unwrap();
        client.get_async_monitor().await.unwrap().into_on_message::<String>()
    }

    /// How many it runs in this time.
    async fn scripts_within(&self, time: Duration) -> u64 {
        let before = self.scripts();
        tokio::time::sleep(time).await;
        self.scripts() - before
    }

    async fn nothing_is_asked(&self) -> bool {
        eventually(PATIENCE, async || self.scripts_within(Duration::from_millis(1500)).await == 0)
            .await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_or_follow_share_one_look_and_end_with_their_clients() {
    let site = Site::open().await;
    let job = site.queue.enqueue(Large("x".to_owned())).await.unwrap();
    let link = site.queue.status_link(&job.queue, &job.id, Duration::from_secs(600));
    let waits = format!("{link}?wait=60");
    let job_path = format!("{BASE}/jobs/default/{}", job.id);
    let watches = format!("{job_path}/events");
    let pages = format!("{BASE}/ui/events");
    let (mut streams, mut without_head) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        for path in [&waits, &watches, &pages] {
            streams.push(site.ask(path).await);
        }
        without_head.push(site.ask(&format!("{job_path}?wait=6")).await);
    }
    // All of them are followed: each has got its head.
    for stream in &mut streams {
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let scripts = site.scripts_within(Duration::from_secs(2)).await;
    assert!((2..=8).contains(&scripts), "{scripts} scripts in 2 s for 400 who follow two things");
    drop(streams);
    for mut stream in without_head {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\"scheduled\""), "{answer}");
    }
    assert!(site.nothing_is_asked().await, "looked at although nobody is there");

    // A client that hangs up before its answer begins is gone as well.
    let mut waiters = Vec::new();
    for _ in 0..20 {
        waiters.push(site.ask(&format!("{job_path}?wait=60")).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(waiters);
    assert!(site.nothing_is_asked().await, "looked at although nobody waits");

    // A client that waits learns of the end: a job that is deleted, and one that is archived.
    let gone = site.ask(&waits).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.queue.inspector().delete(&job.queue, &job.id).await.unwrap();
    let mut answer = String::new();
    let mut gone = gone;
    gone.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"gone\""), "{answer}");
    assert!(answer.contains("application/json"), "{answer}");
}

/// Clients come back at one moment when a server has started again. Jobs would start later each
/// time when all of them are written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_came_at_one_moment_are_not_written_to_at_one_moment() {
    let site = Site::open().await;
    let job = site.queue.enqueue(Large("x".to_owned())).await.unwrap();
    let link = site.queue.status_link(&job.queue, &job.id, Duration::from_secs(600));
    let events = format!("{BASE}/jobs/default/{}/events", job.id);
    // What a heartbeat is: a chunk with a space, and an empty comment.
    for (path, beat) in [(format!("{link}?wait=60"), "\r\n \r\n"), (events, "\n:\n")] {
        let third_beat = async |mut stream: TcpStream| {
            let (mut heard, mut piece) = (String::new(), [0; 1024]);
            while heard.matches(beat).count() < 3 {
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "{path}: {heard}");
                heard.push_str(&String::from_utf8_lossy(&piece[..read]));
            }
            Instant::now()
        };
        let mut streams = Vec::new();
        for _ in 0..40 {
            streams.push(site.ask(&path).await);
        }
        let beats = futures_util::future::join_all(streams.into_iter().map(third_beat)).await;
        let spread = *beats.iter().max().unwrap() - *beats.iter().min().unwrap();
        assert!(spread > Duration::from_millis(400), "{path}: all within {spread:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_large_jobs_or_of_many_queues_stays_small() {
    let site = Site::open().await;
    const MIB: usize = 1 << 20;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let job = site.queue.enqueue(Large("x".repeat(MIB - 100))).await.unwrap();
        ids.insert(job.id.to_string());
    }
    let mut path = format!("{BASE}/queues/default/jobs?state=scheduled&size=100");
    let (mut seen, mut pages) = (BTreeSet::new(), 0);
    loop {
        let (status, text) = site.get(&path).await;
        assert_eq!(status, 200);
        assert!(text.len() < 10 * MIB, "{} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        let rows = page["rows"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{BASE}/queues/default/jobs?state=scheduled&size=100&cursor={next}");
    }
    assert_eq!((&seen, pages), (&ids, 3));

    // Redis serves nobody else while a script copies such a message, so none reads it, and no
    // command reads two.
    let mut commands = site.monitor().await;
    let (_, page) = site.get(&format!("{BASE}/queues/default/jobs?state=scheduled")).await;
    let (_, one) = site.get(&format!("{BASE}/jobs/default/{}", ids.first().unwrap())).await;
    assert!(page.len() > 7 * MIB && one.len() > MIB - 100);
    site.redis.cli(&["ECHO", "the end"]);
    let (mut reads, mut by_scripts) = (0_usize, 0_u32);
    while let Some(command) = commands.next().await {
        let reads_message = command.contains("\"msg\"") && command.contains("\"HMGET\"");
        by_scripts += u32::from(reads_message && command.contains(" lua]"));
        reads += usize::from(reads_message);
        if command.contains("the end") {
            break;
        }
    }
    let rows = serde_json::from_str::<Value>(&page).unwrap()["rows"].as_array().unwrap().len();
    assert!(reads >= rows, "{reads} reads of {rows} messages");
    assert_eq!(by_scripts, 0);

    // Names are free; each of them is a queue that could be asked.
    let names = "for n = 1, 100000 do redis.call('SADD', 'asynq:queues', 'q' .. n) end";
    site.redis.cli(&["EVAL", names, "0"]);
    for path in ["ui/groups", "ui", "ui/scheduled", "ui/failures", "queues", "metrics"] {
        let (before, began) = (site.scripts(), Instant::now());
        let (status, text) = site.get(&format!("{BASE}/{path}")).await;
        assert_eq!(status, 200, "{path}: {text}");
        let scripts = site.scripts() - before;
        let most = if path == "ui/groups" { 0 } else { 2100 };
        assert!(scripts <= most, "{path}: {scripts} scripts");
        assert!(text.len() < 2 * MIB, "{path}: {} bytes", text.len());
        assert!(began.elapsed() < PATIENCE, "{path}: {:?}", began.elapsed());
    }
    // All who look within a moment share the names.
    let (calls, began) = (site.calls("sscan"), Instant::now());
    let pages = (0..10).map(async |_| site.get(&format!("{BASE}/ui/groups")).await);
    futures_util::future::join_all(pages).await;
    let (calls, seconds) = (site.calls("sscan") - calls, began.elapsed().as_secs());
    assert!(calls <= 210 * (2 + seconds), "{calls} calls for names in {seconds} s");
    let first = site.json(&format!("{BASE}/queues?size=3")).await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(next, "q10");
    let second = site.json(&format!("{BASE}/queues?size=3&after={next}")).await;
    let names: Vec<_> = second["queues"].as_array().unwrap().iter().map(|q| &q["queue"]).collect();
    assert_eq!(names, ["q100", "q1000", "q10000"]);
    // A group in a queue far behind is reached by the links.
    site.redis.cli(&["SADD", "asynq:{q100}:groups", "far"]);
    site.redis.cli(&["ZADD", "asynq:{q100}:g:far", "1", "id"]);
    let (_, page) = site.get(&format!("{BASE}/ui/groups")).await;
    assert!(page.contains("far") && page.contains("/ui/groups?after="), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_for_an_id_and_the_list_of_workers_stay_small() {
    let site = Site::open().await;
    const MIB: usize = 1 << 20;
    for n in 0..12 {
        let job = site.queue.enqueue(Large("x".repeat(MIB - 100))).id("twin");
        job.queue(format!("q{n}")).await.unwrap();
    }
    let (status, text) = site.get(&format!("{BASE}/jobs?id=twin")).await;
    assert_eq!(status, 200);
    assert!(text.len() < 10 * MIB, "{} bytes", text.len());
    let first: Value = serde_json::from_str(&text).unwrap();
    let next = first["next"].as_str().unwrap();
    let rest = site.json(&format!("{BASE}/jobs?id=twin&after={next}")).await;
    let jobs = |page: &Value| page["jobs"].as_array().unwrap().len();
    assert_eq!((jobs(&first) + jobs(&rest), &rest["next"]), (12, &Value::Null));

    // A worker of Go's, which announces whole payloads.
    let announce = r"
        local who = '\10\1h\16\1\26\1s'
        redis.call('ZADD', 'asynq:servers', redis.call('TIME')[1] + 600, 'asynq:servers:{h:1:s}')
        redis.call('SET', 'asynq:servers:{h:1:s}', who)
        for n = 1, 40 do
            local job = who .. '\34\1a\42\1t\50\128\128\64' .. string.rep('x', 1048576) .. '\58\1q'
            redis.call('HSET', 'asynq:workers:{h:1:s}', 'job-' .. n, job)
        end";
    site.redis.cli(&["EVAL", announce, "0"]);
    let servers = site.json(&format!("{BASE}/servers")).await;
    let server = &servers["servers"][0];
    let shown = server["running"].as_array().unwrap().len();
    let more = usize::try_from(server["more_running"].as_u64().unwrap()).unwrap();
    assert_eq!((shown + more, &servers["unreadable"]), (40, &Value::from(0)));
    assert!((8..=32).contains(&shown), "{shown} jobs of 1 MiB were read");
    let (_, page) = site.get(&format!("{BASE}/ui/servers")).await;
    assert!(page.contains("40 / "), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_address_can_name_is_shown_with_what_to_do() {
    let site = Site::open().await;
    let job = site.queue.enqueue(Large("x".to_owned())).await.unwrap();
    let copy = format!(
        "local long = string.rep('\\255', 60000)
         redis.call('COPY', 'asynq:{{default}}:t:{}', 'asynq:{{default}}:t:' .. long)
         redis.call('ZADD', 'asynq:{{default}}:scheduled', 9999999999, long)
         redis.call('SADD', 'asynq:queues', 'a\\255}}b')",
        job.id
    );
    site.redis.cli(&["EVAL", &copy, "0"]);
    let get = async |path: &str| {
        let client = reqwest::Client::new();
        let url = format!("http://127.0.0.1:{}{BASE}/{path}", site.port);
        let answer = client.get(url).header("Accept-Language", "en").send().await.unwrap();
        answer.text().await.unwrap()
    };
    let page = get("ui/queues/default?state=scheduled").await;
    assert!(page.contains("too long for an address (180000 bytes)"), "{} bytes", page.len());
    assert!(page.len() < 100_000, "{} bytes", page.len());
    // What the page says can be done: the search is narrowed to it, and all that match are deleted.
    let page = get("ui/jobs?q=state:scheduled+id:%25FF%25FF").await;
    assert!(page.contains("act on all that match"), "{page}");
    let form = "q=state:scheduled+id:%25FF%25FF&all=delete&sure=1&confirm=1";
    let answer = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{}{BASE}/ui/jobs/act", site.port))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Sec-Fetch-Site", "same-origin")
        .body(form);
    let answer = answer.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
    let left = site.redis.cli(&["ZRANGE", "asynq:{default}:scheduled", "0", "-1"]);
    assert_eq!(left.trim(), job.id.to_string());
    let page = get("ui").await;
    assert!(
        page.contains("<code>a%FF}b</code></a>: the name of this queue is not UTF-8"),
        "{page}"
    );
    assert_eq!(site.json(&format!("{BASE}/queues")).await["unnamable"][0], "a%FF}b");
}
