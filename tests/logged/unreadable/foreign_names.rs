//! Ids and names of queues that other programs stored and that this crate would refuse.

use super::*;

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
        assert!(site.page(next).await.contains("is moved to pending"), "{what}");
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
