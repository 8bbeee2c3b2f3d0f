//! The rate limit as a client meets it: in memory, on one Redis and on a Cluster, for
//! an application with and without a job queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::anybody::Anybody;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use rocket::http::{ContentType, Header, Status};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket::{Build, Rocket, State, get, post, routes};
use rocket_jobqueue::{JobQueue, rate_limit::RateLimit};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::fleet::Cluster;
use crate::support::log::Log;
use crate::support::{PATIENCE, RedisServer, closed_port, eventually};

/// How often handlers ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicU32>);

#[get("/hit")]
fn hit(runs: &State<Runs>) -> &'static str {
    runs.0.fetch_add(1, Ordering::SeqCst);
    "hit"
}

#[post("/hit", data = "<_body>")]
fn write(runs: &State<Runs>, _body: String) -> &'static str {
    hit(runs)
}

#[get("/page")]
fn page() -> &'static str {
    "page"
}

/// An application without a job queue, and these settings of the limit.
fn application(settings: &[(&str, Value)], runs: &Runs) -> Rocket<Build> {
    let mut figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("rate_limit.enabled", true))
        .merge(("rate_limit.storage_type", "memory"));
    for (key, value) in settings {
        figment = figment.merge((*key, value));
    }
    rocket::custom(figment)
        .attach(RateLimit::fairing().environment("embedded"))
        .manage(runs.clone())
        .mount("/api", routes![hit, write])
        .mount("/", routes![page])
}

async fn client(settings: &[(&str, Value)], runs: &Runs) -> Client {
    Client::untracked(application(settings, runs)).await.expect("the application starts")
}

fn from(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 4711))
}

async fn get<'c>(client: &'c Client, path: &'c str) -> LocalResponse<'c> {
    client.get(path).remote(from(1)).dispatch().await
}

fn field(response: &LocalResponse<'_>, name: &str) -> Option<String> {
    response.headers().get_one(name).map(str::to_owned)
}

fn number(response: &LocalResponse<'_>, name: &str) -> i64 {
    field(response, name).unwrap_or_else(|| panic!("{name}")).parse().unwrap()
}

fn unix_now() -> i64 {
    rocket_jobqueue::Clock::system().now().as_secs()
}

#[tokio::test]
async fn each_answer_tells_where_the_client_stands_and_who_asks_too_much_is_refused() {
    let runs = Runs::default();
    let limits = [
        ("rate_limit.requests_per_minute", json!(3)),
        ("rate_limit.requests_per_hour", json!(100)),
    ];
    let client = client(&limits, &runs).await;
    for left in [2, 1, 0] {
        let response = get(&client, "/api/hit").await;
        assert_eq!(response.status(), Status::Ok);
        assert_eq!(number(&response, "X-RateLimit-Limit"), 3);
        assert_eq!(number(&response, "X-RateLimit-Remaining"), left);
        assert_eq!(number(&response, "X-RateLimit-Hour-Limit"), 100);
        assert_eq!(number(&response, "X-RateLimit-Hour-Remaining"), 97 + left);
        let (now, reset) = (unix_now(), number(&response, "X-RateLimit-Reset"));
        assert!((now + 55..=now + 61).contains(&reset), "{reset} at {now}");
        let hour = number(&response, "X-RateLimit-Hour-Reset");
        assert!((now + 3595..=now + 3601).contains(&hour), "{hour} at {now}");
        assert_eq!(
            field(&response, "RateLimit-Policy").unwrap(),
            "\"minute\";q=3;w=60, \"hour\";q=100;w=3600"
        );
        let standing = field(&response, "RateLimit").unwrap();
        assert!(standing.starts_with(&format!("\"minute\";r={left};t=")), "{standing}");
    }
    for refused in [
        client.get("/api/hit").remote(from(1)),
        client.post("/api/hit").remote(from(1)).body("a body that nobody reads"),
        client.delete("/api/nothing").remote(from(1)),
    ] {
        let response = refused.dispatch().await;
        assert_eq!(response.status(), Status::TooManyRequests);
        assert_eq!(number(&response, "X-RateLimit-Remaining"), 0);
        // Refused ones are not counted.
        assert_eq!(number(&response, "X-RateLimit-Hour-Remaining"), 97);
        let wait = number(&response, "Retry-After");
        assert!((55..=60).contains(&wait), "{wait}");
        let reset = number(&response, "X-RateLimit-Reset");
        assert!((unix_now() + wait - 1..=unix_now() + wait + 1).contains(&reset));
        assert_eq!(response.content_type(), Some(ContentType::new("application", "problem+json")));
        let body: Value = serde_json::from_str(&response.into_string().await.unwrap()).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&json!(429), &json!(429)));
        assert_eq!(body["message"], "Too Many Requests");
        assert_eq!(body["title"], "Too Many Requests");
    }
    assert_eq!(runs.0.load(Ordering::SeqCst), 3, "no refused request reached a handler");

    let other = client.get("/api/hit").remote(from(2)).dispatch().await;
    assert_eq!(other.status(), Status::Ok);
    let elsewhere = get(&client, "/page").await;
    assert_eq!(elsewhere.status(), Status::Ok);
    assert_eq!(field(&elsewhere, "X-RateLimit-Limit"), None);
}

#[tokio::test]
async fn the_hours_fields_are_there_only_where_the_hour_has_a_limit() {
    let client = client(&[("rate_limit.requests_per_hour", json!(0))], &Runs::default()).await;
    let response = get(&client, "/api/hit").await;
    assert_eq!(number(&response, "X-RateLimit-Limit"), 60);
    assert_eq!(field(&response, "X-RateLimit-Hour-Limit"), None);
    assert_eq!(field(&response, "RateLimit-Policy").unwrap(), "\"minute\";q=60;w=60");
}

#[tokio::test]
async fn a_full_hour_refuses_also_in_a_fresh_minute() {
    let limits =
        [("rate_limit.requests_per_minute", json!(10)), ("rate_limit.requests_per_hour", json!(2))];
    let client = client(&limits, &Runs::default()).await;
    for expected in [200, 200, 429] {
        assert_eq!(get(&client, "/api/hit").await.status().code, expected);
    }
    let refused = get(&client, "/api/hit").await;
    assert!(number(&refused, "Retry-After") > 3590);
    assert_eq!(number(&refused, "X-RateLimit-Remaining"), 8);
}

#[tokio::test]
async fn without_a_limit_nothing_is_counted_and_no_field_is_sent() {
    let off = [("rate_limit.enabled", json!(false)), ("rate_limit.requests_per_minute", json!(1))];
    let client = client(&off, &Runs::default()).await;
    for _ in 0..100 {
        let response = get(&client, "/api/hit").await;
        assert_eq!(response.status(), Status::Ok);
        let fields = response.headers().iter().map(|field| field.name().as_str().to_lowercase());
        assert_eq!(fields.filter(|name| name.contains("ratelimit")).count(), 0);
    }
}

#[tokio::test]
async fn the_route_of_refused_requests_answers_to_nobody_else() {
    let client = client(&[], &Runs::default()).await;
    for path in ["/nothing?too_many_requests", "/nothing?too_many_requests=1", "/nothing"] {
        assert_eq!(get(&client, path).await.status(), Status::NotFound);
    }
}

/// A host's own fairing for CORS, as most write it: it looks at the path.
fn cors() -> rocket::fairing::AdHoc {
    rocket::fairing::AdHoc::on_response("CORS", |request, response| {
        Box::pin(async move {
            if request.uri().path().starts_with("/api") {
                response
                    .set_header(Header::new("Access-Control-Allow-Origin", "https://a.example"));
            }
        })
    })
}

#[tokio::test]
async fn preflights_are_free_and_refusals_keep_what_the_hosts_fairings_add() {
    let runs = Runs::default();
    let settings = [("rate_limit.requests_per_minute", json!(2))];
    let client = Client::untracked(application(&settings, &runs).attach(cors())).await.unwrap();
    let preflight = async |asks: bool| {
        let mut request = client.options("/api/hit?a=b").remote(from(1));
        request.add_header(Header::new("Origin", "https://a.example"));
        if asks {
            request.add_header(Header::new("Access-Control-Request-Method", "POST"));
        }
        let response = request.dispatch().await;
        (response.status().code, field(&response, "X-RateLimit-Remaining"))
    };
    for _ in 0..10 {
        assert_eq!(preflight(true).await, (404, None));
    }
    assert_eq!(get(&client, "/api/hit").await.status(), Status::Ok);
    // Any other OPTIONS counts.
    assert_eq!(preflight(false).await, (404, Some("0".to_owned())));
    assert_eq!(preflight(false).await.0, 429);
    assert_eq!(preflight(true).await, (404, None));
    for path in ["/api/hit", "/api/hit?a=b&c", "/api", "/api/", "/api//hit", "/%61pi/hit"] {
        let response = get(&client, path).await;
        assert_eq!(response.status(), Status::TooManyRequests, "{path}");
        assert!(field(&response, "Retry-After").is_some(), "{path}");
        let origin = field(&response, "Access-Control-Allow-Origin");
        assert_eq!(origin.is_some(), path.starts_with("/api"), "{path}");
    }
    let posted = client.post("/api/hit").remote(from(1)).body("x").dispatch().await;
    assert_eq!(posted.status(), Status::TooManyRequests);
    assert_eq!(runs.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_proxy_that_is_trusted_speaks_for_its_clients() {
    let settings = [
        ("rate_limit.requests_per_minute", json!(1)),
        ("rate_limit.trusted_proxies", json!(["192.0.2.0/30", "::1"])),
    ];
    let client = client(&settings, &Runs::default()).await;
    let ask = async |n: u8, forwarded: &str| {
        let header = Header::new("X-Forwarded-For", forwarded.to_owned());
        let request = client.get("/api/hit").remote(from(n)).header(header);
        request.dispatch().await.status().code
    };
    assert_eq!(ask(1, "203.0.113.1").await, 200);
    assert_eq!(ask(2, "203.0.113.1").await, 429, "the same client by another proxy");
    assert_eq!(ask(1, "203.0.113.2").await, 200);
    assert_eq!(ask(1, "198.51.100.9, 203.0.113.2").await, 429, "it cannot choose its address");
    assert_eq!(ask(9, "203.0.113.3").await, 200, "nobody that is trusted");
    assert_eq!(ask(9, "203.0.113.4").await, 429);
}

#[tokio::test]
async fn the_proxies_of_the_job_queue_are_trusted_unless_the_limit_names_others() {
    let ask = async |settings: &[(&str, Value)], forwarded: &str| {
        let client = client(settings, &Runs::default()).await;
        let mut last = 0;
        for n in ["1", "2"] {
            let header = Header::new("X-Forwarded-For", format!("{forwarded}{n}"));
            let request = client.get("/api/hit").remote(from(1)).header(header);
            last = request.dispatch().await.status().code;
        }
        last
    };
    let one = ("rate_limit.requests_per_minute", json!(1));
    let queue = ("jobqueue.trusted_proxies", json!(["192.0.2.1"]));
    let own = ("rate_limit.trusted_proxies", json!(["192.0.2.9"]));
    assert_eq!(ask(&[one.clone(), queue.clone()], "203.0.113.").await, 200);
    assert_eq!(ask(&[one.clone(), queue, own], "203.0.113.").await, 429);
    assert_eq!(ask(&[one], "203.0.113.").await, 429);
}

#[rstest]
#[case::word("storage_type", json!("disk"), "storage_type: expected auto or redis or memory")]
#[case::no_address("storage_type", json!("redis"), "addresses in redis.default.cluster.addrs")]
#[case::negative("requests_per_minute", json!(-1), "requests_per_minute: expected")]
#[case::path("paths", json!(["api"]), "paths: expected a path that begins with /")]
#[case::network("trusted_proxies", json!(["10.0.0.0/99"]), "trusted_proxies: expected an IP address")]
#[tokio::test]
async fn a_wrong_setting_stops_the_launch_and_says_so(
    #[case] key: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let (log, _guard) = Log::of_this_thread(tracing::Level::INFO);
    let started =
        Client::untracked(application(&[(&format!("rate_limit.{key}"), value)], &Runs::default()));
    let Err(error) = started.await else { panic!("it starts") };
    // Looked at, else it panics.
    let _ = error.kind();
    let log = log.text();
    assert!(log.contains(expected), "{log}");
}

#[tokio::test]
async fn reading_health_metrics_pages_and_documents_of_the_queue_is_not_counted() {
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("jobqueue.store", "memory"))
        .merge(("rate_limit.enabled", true))
        .merge(("rate_limit.storage_type", "memory"))
        .merge(("rate_limit.requests_per_minute", 5));
    let rocket = rocket::custom(figment)
        .attach(JobQueue::fairing().environment("embedded").admin_guard::<Anybody>())
        .attach(RateLimit::fairing().environment("embedded"));
    let client = Client::untracked(rocket).await.unwrap();
    const BASE: &str = "/api/dm-jobqueue";
    for _ in 0..200 {
        assert_eq!(client.get(format!("{BASE}/health")).dispatch().await.status(), Status::Ok);
    }
    for path in ["ui", "ui/register", "metrics", "openapi.json", "docs/index.html", "health/live"] {
        for _ in 0..10 {
            let response = client.get(format!("{BASE}/{path}")).dispatch().await;
            assert!(response.status().code < 400, "{path}: {}", response.status());
            assert_eq!(field(&response, "X-RateLimit-Limit"), None, "{path}");
        }
    }
    let register = || client.post(format!("{BASE}/register")).header(ContentType::JSON).body("{}");
    // A form that is sent to a page is not a page view.
    let form = async |path: &str| {
        let request = client.post(format!("{BASE}/{path}")).header(ContentType::Form);
        let request = request.header(Header::new("Sec-Fetch-Site", "same-origin"));
        request.body("message=hi&delay_seconds=&max_retry=").dispatch().await.status().code
    };
    assert_eq!([form("ui/register").await, form("ui/%72egister").await], [200, 200]);
    for _ in 0..3 {
        assert_eq!(register().dispatch().await.status(), Status::Created);
    }
    assert_eq!(register().dispatch().await.status(), Status::TooManyRequests);
    for path in ["ui/register", "ui/%72egister", "ui/actions", "health", "metrics", "docs/"] {
        assert_eq!(form(path).await, 429, "{path}");
    }
    assert_eq!(client.get(format!("{BASE}/ui/register")).dispatch().await.status(), Status::Ok);
}

/// Where requests are counted.
#[derive(Clone, Copy, Debug)]
enum Place {
    Memory,
    /// Named by one address.
    Single,
    /// One server in a list whose other address leads nowhere.
    SingleOfTwo,
    Cluster,
    /// A Cluster named by one of its nodes.
    ClusterByOne,
}

struct Site {
    settings: Vec<(&'static str, Value)>,
    servers: Vec<RedisServer>,
}

impl Place {
    async fn open(self) -> Site {
        let (servers, addrs) = match self {
            Place::Memory => (Vec::new(), Vec::new()),
            Place::Single | Place::SingleOfTwo => {
                let server = RedisServer::start::<&str>(&[]);
                let mut addrs = vec![server.addr()];
                if matches!(self, Place::SingleOfTwo) {
                    addrs.insert(0, format!("127.0.0.1:{}", closed_port()));
                }
                (vec![server], addrs)
            }
            Place::Cluster | Place::ClusterByOne => {
                let cluster = Cluster::start(3, 1, "2000").await;
                let named = if matches!(self, Place::Cluster) { 6 } else { 1 };
                let addrs = cluster.nodes.iter().take(named).map(RedisServer::addr).collect();
                (cluster.nodes, addrs)
            }
        };
        let storage = if addrs.is_empty() { "memory" } else { "auto" };
        let mut settings = vec![
            ("rate_limit.storage_type", json!(storage)),
            ("rate_limit.requests_per_minute", json!(300)),
            ("rate_limit.requests_per_hour", json!(1000)),
        ];
        if !addrs.is_empty() {
            settings.push(("redis.default.cluster.addrs", json!(addrs)));
        }
        Site { settings, servers }
    }
}

#[rstest]
#[tokio::test]
async fn exactly_as_many_pass_as_may_of_a_thousand_at_once(
    #[values(
        Place::Memory,
        Place::Single,
        Place::SingleOfTwo,
        Place::Cluster,
        Place::ClusterByOne
    )]
    place: Place,
) {
    let site = place.open().await;
    let (log, _guard) = Log::of_this_thread(tracing::Level::WARN);
    // On a busy machine a request may wait for Redis for more than half a second. Then its
    // process counts by itself and logs a warning: the round is repeated by another client.
    let alone = || log.lines(&["this process counts by itself"]).len();
    for who in 1..=20 {
        let before = alone();
        let counted = a_thousand_at_once(&site, who).await;
        if alone() == before {
            assert_eq!(counted, (300, 700, 302), "{place:?}");
            return;
        }
    }
    panic!("{place:?} never counts: {}", log.text());
}

/// A thousand requests of this client to two processes that have just started: how many
/// pass, how many are refused, and how many reach a handler.
async fn a_thousand_at_once(site: &Site, who: u8) -> (usize, usize, u32) {
    let runs = Runs::default();
    // Two processes share what they count in Redis.
    let one = client(&site.settings, &runs).await;
    let two = client(&site.settings, &runs).await;
    let shared = !site.servers.is_empty();
    // The first request finds out what the servers are.
    for client in [&one, &two] {
        let response = client.get("/api/hit").remote(from(100 + who)).dispatch().await;
        assert!(field(&response, "X-RateLimit-Limit").is_some(), "counted");
    }

    let ask = |n: usize| {
        let client = if n.is_multiple_of(2) || !shared { &one } else { &two };
        async move { client.get("/api/hit").remote(from(who)).dispatch().await.status().code }
    };
    let answers: Vec<u16> = stream::iter((0..1000).map(ask)).buffer_unordered(50).collect().await;
    let number = |status: u16| answers.iter().filter(|code| **code == status).count();
    (number(200), number(429), runs.0.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_client_of_two_applications_with_namespaces_is_counted_for_each() {
    let site = Place::Single.open().await;
    for namespace in ["shop", "shop-eu"] {
        let own = [
            ("rate_limit.requests_per_minute", json!(1)),
            ("jobqueue.namespace", json!(namespace)),
        ];
        let client = client(&[&site.settings[..], &own].concat(), &Runs::default()).await;
        assert_eq!(get(&client, "/api/hit").await.status().code, 200, "{namespace}");
        assert_eq!(get(&client, "/api/hit").await.status().code, 429, "{namespace}");
        let key = format!("ratelimit:{{{namespace}:192.0.2.1}}");
        assert_eq!(site.servers[0].cli(&["EXISTS", &key]).trim(), "1");
    }
}

#[tokio::test]
async fn windows_in_redis_end_by_themselves_and_a_broken_one_begins_anew() {
    let site = Place::Single.open().await;
    let client = client(
        &[&site.settings[..], &[("rate_limit.requests_per_minute", json!(2))]].concat(),
        &Runs::default(),
    )
    .await;
    let redis = &site.servers[0];
    let codes = async || {
        [get(&client, "/api/hit").await.status().code, get(&client, "/api/hit").await.status().code]
    };
    assert_eq!(codes().await, [200, 200]);
    assert_eq!(codes().await, [429, 429]);
    let keys = redis.cli(&["KEYS", "*"]);
    let mut keys: Vec<_> = keys.split_whitespace().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["ratelimit:{192.0.2.1}", "ratelimit_hour:{192.0.2.1}"]);
    let left = |key: &str| redis.cli(&["PTTL", key]).trim().parse::<u64>().unwrap();
    assert!((50_000..=60_000).contains(&left(keys[0])), "{}", left(keys[0]));
    assert!((3_590_000..=3_600_000).contains(&left(keys[1])));

    redis.cli(&["PEXPIRE", keys[0], "1"]);
    let ended = async || redis.cli(&["EXISTS", keys[0]]).trim() == "0";
    assert!(eventually(PATIENCE, ended).await);
    assert_eq!(codes().await, [200, 200]);
    assert_eq!(codes().await, [429, 429]);
    // The hour went on counting.
    assert_eq!(redis.cli(&["GET", keys[1]]).trim(), "4");

    // Without an end it would lock its client out for ever; and it may hold no number.
    redis.cli(&["PERSIST", keys[0]]);
    assert_eq!(codes().await, [200, 200]);
    assert!((50_000..=60_000).contains(&left(keys[0])));
    redis.cli(&["SET", keys[0], "words", "EX", "60"]);
    assert_eq!(codes().await, [200, 200]);
}

#[tokio::test]
async fn while_redis_does_not_count_each_process_does_with_one_warning_for_each_time() {
    let (log, _guard) = Log::of_this_thread(tracing::Level::INFO);
    let mut site = Place::Single.open().await;
    let settings = [&site.settings[..], &[("rate_limit.requests_per_minute", json!(20))]].concat();
    let (here, there) =
        (client(&settings, &Runs::default()).await, client(&settings, &Runs::default()).await);
    // Returns how many of these requests of this client pass.
    let pass = async |client: &Client, who: u8, requests: u32| {
        let mut passed = 0;
        for _ in 0..requests {
            let response = client.get("/api/hit").remote(from(who)).dispatch().await;
            assert_eq!(number(&response, "X-RateLimit-Limit"), 20);
            passed += u32::from(response.status() == Status::Ok);
        }
        passed
    };
    site.servers[0].stop();
    let began = Instant::now();
    assert_eq!(pass(&here, 1, 1000).await, 20);
    assert_eq!((pass(&here, 2, 30).await, pass(&there, 1, 30).await), (20, 20));
    // None of them waits for long.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());

    site.servers[0].restart();
    let redis = &site.servers[0];
    let counted = async || {
        here.get("/api/hit").remote(from(3)).dispatch().await;
        redis.cli(&["EXISTS", "ratelimit:{192.0.2.3}"]) == "1"
    };
    assert!(eventually(PATIENCE, counted).await);

    // A full server reads and refuses to write: nothing is forced into it.
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(pass(&here, 4, 200).await, 20);
    assert_eq!(redis.cli(&["EXISTS", "ratelimit:{192.0.2.4}"]), "0");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(eventually(PATIENCE, counted).await);

    // If the server takes requests and answers none, nobody waits for long.
    redis.freeze();
    let began = Instant::now();
    let hits = (0..100).map(|_| here.get("/api/hit").remote(from(5)).dispatch());
    let answers = join_all(hits).await;
    let passed = answers.iter().filter(|response| response.status() == Status::Ok).count();
    assert_eq!(passed, 20);
    // They wait half a second together. One after another, they would wait 50 s.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    redis.thaw();

    let text = log.text();
    assert!(text.contains("this process counts by itself"), "{text}");
    let warnings = text.matches(" WARN ").count();
    assert!((3..=5).contains(&warnings), "one for each time and process:\n{text}");
    assert!(!text.contains("192.0.2."), "no client in the log: {text}");
}

#[tokio::test]
async fn the_builders_of_queue_and_limit_complete_what_the_files_leave_out() {
    let figment = rocket::Config::figment()
        .merge(("log_level", "off"))
        .merge(("rate_limit.enabled", true))
        .merge(("rate_limit.storage_type", "redis"))
        .merge(("jobqueue.store", "memory"))
        .select("production");
    let queue = JobQueue::fairing()
        .environment("embedded")
        .set("jobqueue.worker", false)
        .set("jobqueue.allow_memory_in_release", true)
        .set("jobqueue.base", "/api/queue");
    let limit = RateLimit::fairing()
        .environment("embedded")
        .set("redis.default.cluster.addrs", [format!("127.0.0.1:{}", closed_port())]);
    let rocket = rocket::custom(figment).attach(queue).attach(limit);
    let client = Client::untracked(rocket.mount("/api", routes![page])).await.expect("it starts");

    assert!(field(&get(&client, "/api/page").await, "X-RateLimit-Limit").is_some());
    assert_eq!(field(&get(&client, "/api/queue/health/live").await, "X-RateLimit-Limit"), None);
}
