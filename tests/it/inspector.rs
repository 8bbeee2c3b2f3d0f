//! What the inspector sees in a Redis where others have been: Go workers, other
//! tools, faults; and in one with more jobs than a script may look at.

mod effort;

use std::sync::Arc;
use std::time::Duration;

use crate::support::fleet::Cluster;
use crate::support::harness::{Harness, START};
use crate::support::{PATIENCE, RedisServer, eventually};
use rocket_jobqueue::internals::redis::{RedisBroker, wire};
use rocket_jobqueue::internals::{
    Announcement, Broker, PoolSettings, RedisPool, Running, WorkerDetails, inspector,
};
use rocket_jobqueue::{
    Clock, Inspector, JobId, JobState, Placement, QueueName, Timestamp,
    inspect::{Corruption, JobPage, JobRow, Page},
};

/// A script's text for these bytes.
fn lua(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
    format!("'{escaped}'")
}

impl Harness {
    fn inspector(&self) -> Inspector {
        inspector(self.broker.clone())
    }

    fn encoded(&self, name: &str) -> Vec<u8> {
        wire::encode(&self.job(name).record)
    }

    /// Runs Lua on the server, with `Q` and `M(id)`, the message of a job.
    fn eval_with_messages(&self, code: &str) -> String {
        let message = lua(&self.encoded("ID"));
        let begin = format!(
            "local Q = 'asynq:{{default}}:' local function M(id) \
             return (string.gsub({message}, '\\002ID', string.char(#id) .. id)) end "
        );
        let answer = self.server.cli(&["EVAL", &format!("{begin}{code}"), "0"]);
        assert!(!answer.contains("ERR"), "{answer}");
        answer
    }

    async fn list(&self, state: JobState) -> JobPage {
        self.inspector().jobs(&self.queue, state, &Page::default()).await.unwrap()
    }
}

/// What each row is: its id, with what is wrong with it.
fn rows(page: &JobPage) -> Vec<(String, Option<Corruption>)> {
    let describe = |row: &JobRow| match row {
        JobRow::Corrupt(broken) => (broken.id.to_string(), Some(broken.corruption.clone())),
        row => (row.id().to_string(), None),
    };
    page.rows.iter().map(describe).collect()
}

fn one(id: &str, corruption: impl Into<Option<Corruption>>) -> (String, Option<Corruption>) {
    (id.to_owned(), corruption.into())
}

#[tokio::test]
async fn every_list_shows_its_ghosts_and_its_jobs() {
    let on = Harness::start();
    on.eval_with_messages(
        "redis.call('SADD', 'asynq:queues', 'default')
         for _, state in ipairs({'pending', 'active'}) do
             redis.call('RPUSH', Q .. state, 'ghost-' .. state, state)
             redis.call('HSET', Q .. 't:' .. state, 'msg', M(state), 'state', state)
         end
         for _, state in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
             redis.call('ZADD', Q .. state, 1, 'ghost-' .. state, 2, state)
             redis.call('HSET', Q .. 't:' .. state, 'msg', M(state), 'state', state)
         end
         redis.call('SADD', Q .. 'groups', 'g')
         redis.call('ZADD', Q .. 'g:g', 1, 'ghost', 2, 'member')
         redis.call('HSET', Q .. 't:member', 'msg', M('member'), 'state', 'aggregating', 'group', 'g')",
    );

    for state in [JobState::Scheduled, JobState::Retry, JobState::Archived, JobState::Completed] {
        let ghost = format!("ghost-{state}");
        let page = on.list(state).await;
        assert_eq!(rows(&page), [one(&ghost, Corruption::Missing), one(state.as_str(), None)]);
        assert_eq!(page.total, 2);
    }
    for state in [JobState::Pending, JobState::Active] {
        let ghost = format!("ghost-{state}");
        assert_eq!(
            rows(&on.list(state).await),
            [one(state.as_str(), None), one(&ghost, Corruption::Missing)]
        );
    }
    let group = on.inspector().group_jobs(&on.queue, "g", &Page::default()).await.unwrap();
    assert_eq!(rows(&group), [one("ghost", Corruption::Missing), one("member", None)]);
    let info = on.inspector().queue(&on.queue).await.unwrap();
    assert_eq!((info.size, info.groups, info.latency), (14, 1, Duration::ZERO));
    assert_eq!(on.inspector().memory(&on.queue).await.unwrap().sampled, 7);
}

#[tokio::test]
async fn what_is_damaged_is_a_row_that_says_how() {
    let on = Harness::start();
    on.eval_with_messages(
        "redis.call('SADD', 'asynq:queues', 'default')
         local T = Q .. 't:'
         redis.call('HSET', T .. 'a', 'msg', M('a'), 'state', 'pending')
         redis.call('HSET', T .. 'b', 'msg', '\\255\\255', 'state', 'pending')
         redis.call('HSET', T .. 'c', 'msg', M('c'))
         redis.call('HSET', T .. 'd', 'msg', M('d'), 'state', 'dreaming')
         redis.call('HSET', T .. 'e', 'msg', M('e'), 'state', 'archived')
         redis.call('HSET', T .. 'f', 'state', 'pending')
         redis.call('SET', T .. 'g', 'text')
         redis.call('LPUSH', Q .. 'pending', 'a', 'b', 'c', 'd', 'e', 'f', 'g', '\\255', '')",
    );

    let page = on.list(JobState::Pending).await;

    assert_eq!(
        rows(&page),
        [
            one("a", None),
            one("b", Corruption::UnreadableMessage),
            one("c", Corruption::NoState),
            one("d", Corruption::UnknownState("dreaming".to_owned())),
            one("e", Corruption::OtherState(JobState::Archived)),
            one("f", Corruption::NoMessage),
            one("g", Corruption::WrongType),
            one("%FF", Corruption::Missing),
            one("", Corruption::Missing),
        ]
    );
    let JobRow::Corrupt(unreadable) = &page.rows[1] else { panic!("{page:?}") };
    assert_eq!(unreadable.message_bytes, 2);
    // A cursor of an id that is not text leads to the next page all the same.
    let mut walk = Vec::new();
    let mut next = Page::default().size(1).unwrap();
    loop {
        let page = on.inspector().jobs(&on.queue, JobState::Pending, &next).await.unwrap();
        walk.extend(rows(&page));
        let Some(cursor) = page.next else { break };
        next = Page::after(cursor).size(1).unwrap();
    }
    assert_eq!(walk, rows(&page));
}

#[tokio::test]
async fn scores_that_nobody_should_have_written_are_readable() {
    let on = Harness::start();
    on.eval_with_messages(
        "redis.call('SADD', 'asynq:queues', 'default')
         for id, score in pairs({a = '-inf', b = '-5', c = '1.25', d = '1.77e18', e = 'inf'}) do
             redis.call('ZADD', Q .. 'scheduled', score, id)
             redis.call('HSET', Q .. 't:' .. id, 'msg', M(id), 'state', 'scheduled')
         end",
    );

    let page = on.list(JobState::Scheduled).await;

    let due: Vec<_> = page.rows.iter().map(|row| row.job().unwrap().due.unwrap()).collect();
    let latest = Timestamp::from_secs(253_402_300_799);
    let zero = Timestamp::from_secs(0);
    assert_eq!(due, [zero, zero, Timestamp::from_micros(1_250_000), latest, latest]);
    let mut walk = Vec::new();
    let mut next = Page::default().size(1).unwrap();
    loop {
        let page = on.inspector().jobs(&on.queue, JobState::Scheduled, &next).await.unwrap();
        walk.extend(rows(&page));
        let Some(cursor) = page.next else { break };
        next = Page::after(cursor).size(1).unwrap();
    }
    assert_eq!(walk, rows(&page));
}

#[tokio::test]
async fn an_active_job_without_lease_is_orphaned() {
    let on = Harness::start();
    on.fill(&["a", "b", "c"]).await;
    on.broker.dequeue(std::slice::from_ref(&on.queue), 3).await.unwrap();
    on.eval_with_messages(&format!(
        "redis.call('ZREM', Q .. 'lease', 'a')
         redis.call('ZADD', Q .. 'lease', {START}, 'b')"
    ));

    let page = on.list(JobState::Active).await;

    let seen: Vec<_> = page
        .rows
        .iter()
        .map(|row| row.job().map(|info| (info.orphaned, info.lease_ends.is_some())).unwrap())
        .collect();
    assert_eq!(seen, [(true, false), (true, true), (false, true)]);
}

#[tokio::test]
async fn a_queue_with_keys_of_other_types_hides_no_other_queue() {
    let on = Harness::start();
    on.fill(&["a"]).await;
    on.server.cli(&["SADD", "asynq:queues", "broken"]);
    on.server.cli(&["SET", "asynq:{broken}:archived", "text"]);
    on.server.cli(&["SET", "asynq:{broken}:processed", "many"]);

    let all = on.inspector().all_queues().await.unwrap();

    assert_eq!(all.len(), 2);
    assert_eq!(all[0].queue.as_str(), "broken");
    assert_eq!(all[0].problem.as_deref(), Some("stored data has an unexpected type"));
    assert_eq!(all[1].info.as_ref().unwrap().size, 1);
    let broken = &all[0].queue;
    let error =
        on.inspector().jobs(broken, JobState::Archived, &Page::default()).await.unwrap_err();
    assert!(error.is_refused(), "{error:?}");
    // What is whole is readable.
    assert!(on.inspector().jobs(broken, JobState::Retry, &Page::default()).await.is_ok());
    assert_eq!(on.inspector().find(&JobId::new("a").unwrap()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn queues_with_names_of_any_text_are_readable() {
    let on = Harness::start();
    let names = ["a}b", "{x", "}", "with space", "päiväkirja", "new\nline", "a/b"];
    for name in names {
        on.server.cli(&["SADD", "asynq:queues", name]);
        on.server.cli(&["LPUSH", &format!("asynq:{{{name}}}:pending"), "ghost"]);
    }
    on.server.cli(&["EVAL", "redis.call('SADD', 'asynq:queues', '\\255')", "0"]);

    let all = on.inspector().all_queues().await.unwrap();

    let mut found: Vec<_> = all.iter().map(|one| one.queue.as_str()).collect();
    found.sort_unstable();
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(found, expected);
    for summary in &all {
        let queue = &summary.queue;
        assert_eq!(summary.info.as_ref().unwrap().size, 1, "{queue}");
        let page = on.inspector().jobs(queue, JobState::Pending, &Page::default()).await.unwrap();
        assert_eq!(rows(&page), [one("ghost", Corruption::Missing)], "{queue}");
        on.inspector().history(queue, 2).await.unwrap();
        on.inspector().memory(queue).await.unwrap();
        on.inspector().groups(queue, &Page::default()).await.unwrap();
    }
}

#[tokio::test]
async fn aggregations_in_progress_are_listed_by_their_end() {
    let on = Harness::start();
    on.fill(&["a"]).await;
    on.eval_with_messages(
        "for set, ends in pairs({['g:late:s1'] = 30, ['g:a:b:s2'] = 20}) do
             redis.call('ZADD', Q .. set, 1, 'x', 2, 'y')
             redis.call('ZADD', Q .. 'aggregation_sets', ends, Q .. set)
         end
         redis.call('ZADD', Q .. 'aggregation_sets', 10, 'asynq:{other}:g:a:s3')",
    );

    let sets = on.inspector().aggregations(&on.queue).await.unwrap();

    let seen: Vec<_> = sets
        .iter()
        .map(|s| (s.group.as_str(), s.id.as_str(), s.size, s.expires.as_secs()))
        .collect();
    assert_eq!(seen, [("a:b", "s2", 2, 20), ("late", "s1", 2, 30)]);
}

#[tokio::test]
async fn announcements_of_go_are_seen_and_unreadable_ones_counted() {
    let on = Harness::start();
    // The worked encodings of Asynq's own runtime, protocol appendix A.
    let server = "0a057765622d311092211a2435613164366130652d326633622d346331642d396538662d373061\
        316232633364346535200a2a0b0a0764656661756c7410033a06616374697665420c08809d80cc061080cab5ee\
        014801";
    let worker = "0a057765622d311092211a2435613164366130652d326633622d346331642d396538662d373061\
        3162326333643465352203742d312a0d656d61696c3a64656c6976657232027b7d3a0764656661756c74420608\
        819d80cc064a060889ab80cc06";
    let unhex = |hex: &str| -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    };
    let (server, worker) = (lua(&unhex(server)), lua(&unhex(worker)));
    let live = START + 5;
    on.eval_with_messages(&format!(
        "for _, who in ipairs({{'go', 'bad', 'typed', 'gone'}}) do
             redis.call('ZADD', 'asynq:servers', {live}, 'asynq:servers:{{' .. who .. '}}')
             redis.call('ZADD', 'asynq:workers', {live}, 'asynq:workers:{{' .. who .. '}}')
         end
         redis.call('ZADD', 'asynq:servers', {START} - 1, 'asynq:servers:{{late}}')
         redis.call('SET', 'asynq:servers:{{late}}', {server})
         redis.call('SET', 'asynq:servers:{{go}}', {server})
         redis.call('HSET', 'asynq:workers:{{go}}', 't-1', {worker}, 't-2', '\\255')
         redis.call('SET', 'asynq:servers:{{bad}}', '\\255')
         redis.call('LPUSH', 'asynq:servers:{{typed}}', 'x')
         redis.call('SET', 'asynq:workers:{{typed}}', 'x')
         redis.call('ZADD', 'asynq:servers', {live}, 'something else')
         redis.call('SADD', 'asynq:queues', 'default')
         redis.call('LPUSH', Q .. 'active', 't-1')
         redis.call('HSET', Q .. 't:t-1', 'msg', M('t-1'), 'state', 'active')"
    ));

    let all = on.inspector().servers().await.unwrap();

    assert_eq!(all.unreadable, 4, "bad, typed, something else, t-2");
    let [go] = all.servers.as_slice() else { panic!("{all:?}") };
    assert_eq!((go.host.as_str(), go.pid, go.status.as_str()), ("web-1", 4242, "active"));
    assert_eq!(go.started, Some(Timestamp::from_micros(1_770_000_000_500_000)));
    let [running] = go.running.as_slice() else { panic!("{go:?}") };
    assert_eq!((running.id.as_str(), running.job_type.as_str()), ("t-1", "email:deliver"));
    let job = on.inspector().job(&on.queue, &JobId::new("t-1").unwrap()).await.unwrap().unwrap();
    let worker = job.worker.unwrap();
    assert_eq!(worker.server_id, go.server_id);
    assert_eq!(worker.deadline, Some(Timestamp::from_secs(1_770_001_801)));
}

#[tokio::test]
async fn a_job_is_found_in_whatever_queue_it_is() {
    let on = Harness::start();
    on.fill(&["a", "b"]).await;
    let elsewhere = QueueName::new("elsewhere").unwrap();
    let mut other = on.job("a").placed(Placement::After(Duration::from_secs(60)));
    other.record.queue = elsewhere.clone();
    on.broker.enqueue(&[other]).await.unwrap();

    let found = on.inspector().find(&JobId::new("a").unwrap()).await.unwrap();

    let places: Vec<_> =
        found.iter().map(|info| (info.record.queue.as_str(), info.state)).collect();
    assert_eq!(places, [("default", JobState::Pending), ("elsewhere", JobState::Scheduled)]);
    assert!(on.inspector().find(&JobId::new("c").unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn jobs_of_one_type_are_found_among_many_others() {
    let on = Harness::start();
    let job = |n: usize| {
        let mut job = on.job(&format!("j{n:04}"));
        if n.is_multiple_of(150) {
            job.record.job_type = "rare".to_owned();
        }
        job
    };
    let jobs: Vec<_> = (0..1200).map(job).collect();
    on.broker.enqueue(&jobs).await.unwrap();
    on.server.cli(&["RPUSH", "asynq:{default}:pending", "ghost"]);

    let mut found = Vec::new();
    let mut page = Page::default().size(5).unwrap();
    loop {
        let some =
            on.inspector().jobs_of_type(&on.queue, JobState::Pending, "rare", &page).await.unwrap();
        assert!(some.rows.len() <= 5);
        assert_eq!(some.total, 1201);
        found.extend(rows(&some));
        let Some(next) = some.next else { break };
        page = Page::after(next).size(100).unwrap().size(5).unwrap();
    }

    let expected: Vec<_> = (0..8).map(|n| one(&format!("j{:04}", n * 150), None)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn heavy_jobs_come_whole_though_no_script_answers_much() {
    let on = Harness::start();
    let heavy = |n: usize| {
        let mut job = on.job(&format!("j{n}"));
        job.record.payload = Some(vec![b'x'; 300_000]);
        job
    };
    let jobs: Vec<_> = (0..10).map(heavy).collect();
    on.broker.enqueue(&jobs).await.unwrap();

    let page = on.list(JobState::Pending).await;

    let sizes: Vec<_> =
        page.rows.iter().map(|row| row.job().unwrap().record.payload_bytes().len()).collect();
    assert_eq!(sizes, [300_000; 10]);
    assert_eq!(rows(&page), (0..10).map(|n| one(&format!("j{n}"), None)).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_payload_or_result_is_in_debug_and_all_is_in_json() {
    let on = Harness::start();
    let mut job = on.job("a");
    job.record.payload = Some(br#"{"secret":1}"#.to_vec());
    job.record.retention = Duration::from_secs(60);
    let record = Arc::new(job.record.clone());
    on.broker.enqueue(&[job]).await.unwrap();
    on.eval_with_messages("redis.call('HSET', Q .. 't:a', 'result', 'secret\\255')");
    let at = Timestamp::from_secs(START);
    let who = Announcement {
        host: "host".to_owned(),
        pid: 1,
        server_id: "s".to_owned(),
        concurrency: 1,
        queues: [(on.queue.clone(), 1)].into(),
        strict_priority: false,
        status: "active",
        started: at,
        running: vec![Running { job: record, started: at, deadline: at }],
        details: WorkerDetails::default(),
    };
    on.broker.announce(&who).await.unwrap();
    let page = on.list(JobState::Pending).await;
    let servers = on.inspector().servers().await.unwrap();

    let debug = format!("{page:?} {servers:?}");
    assert!(!debug.contains("secret"), "{debug}");

    let json = serde_json::to_value(&page).unwrap();
    assert_eq!(json["rows"][0]["row"], "job");
    assert_eq!(json["rows"][0]["id"], "a");
    assert_eq!(json["rows"][0]["state"], "pending");
    assert_eq!(json["rows"][0]["payload"], r#"{"secret":1}"#);
    assert_eq!(json["rows"][0]["result"]["hex"], "736563726574ff");
    assert_eq!(json["rows"][0]["retention_seconds"], 60);
    assert_eq!(json["rows"][0]["pending_since"], "2096-10-02T07:06:40.000000Z");
    assert_eq!(json["next"], serde_json::Value::Null);
    let json = serde_json::to_value(&servers).unwrap();
    assert_eq!(json["servers"][0]["running"][0]["payload"], r#"{"secret":1}"#);
    assert_eq!(json["servers"][0]["queues"]["default"], 1);
    let json = serde_json::to_value(on.inspector().queue(&on.queue).await.unwrap()).unwrap();
    assert_eq!((&json["latency_seconds"], &json["sizes"]["pending"]), (&0.into(), &1.into()));
}

#[tokio::test]
async fn the_store_tells_what_an_operator_wants_to_know() {
    let on = Harness::on(RedisServer::start(&["--maxmemory", "100mb"]), |_| {});

    let store = on.inspector().store().await.unwrap();

    let [node] = store.nodes.as_slice() else { panic!("{store:?}") };
    assert!(node.version.as_deref().unwrap().contains('.'), "{node:?}");
    assert_eq!(node.role.as_deref(), Some("master"));
    assert_eq!(node.eviction_policy.as_deref(), Some("noeviction"));
    assert_eq!(node.max_memory, Some(100 << 20));
    assert!(node.used_memory.unwrap() > 100_000);
    assert!(!store.cluster && store.description.contains(&on.server.addr()));
    assert_eq!(on.inspector().cluster_place(&on.queue).await.unwrap(), None);
}

#[tokio::test]
async fn where_info_and_the_registry_are_forbidden_the_rest_is_seen() {
    let server = RedisServer::start::<&str>(&[]);
    let rule = "ACL SETUSER app on >pw ~asynq:{* ~asynq:queues &* +@all -info -memory|usage";
    assert_eq!(server.cli(&rule.split(' ').collect::<Vec<_>>()), "OK");
    let on = Harness::on(server, |settings| {
        (settings.username, settings.password) = (Some("app".into()), Some("pw".into()));
    });
    on.fill(&["a"]).await;
    on.broker.dequeue(std::slice::from_ref(&on.queue), 1).await.unwrap();

    let store = on.inspector().store().await.unwrap();
    assert_eq!((store.nodes.len(), &store.nodes[0].version), (1, &None));
    let page = on.list(JobState::Active).await;
    assert_eq!((rows(&page), &page.rows[0].job().unwrap().worker), (vec![one("a", None)], &None));
    assert!(on.inspector().memory(&on.queue).await.unwrap_err().is_refused());
    assert!(on.inspector().servers().await.unwrap_err().is_refused());
}

#[tokio::test]
async fn a_cluster_says_where_a_queue_lives() {
    let cluster = Cluster::start(3, 1, "2000").await;
    let settings = PoolSettings { topology: cluster.topology(), ..PoolSettings::default() };
    let pool = RedisPool::new(settings).unwrap();
    let inspector = inspector(Arc::new(RedisBroker::new(pool, Clock::system())));

    let queue = QueueName::new("default").unwrap();
    let place = async || inspector.cluster_place(&queue).await.unwrap().unwrap();
    // A replica shows up a little later than its master.
    let complete = async || place().await.nodes.len() == 2;
    assert!(eventually(PATIENCE, complete).await, "{:?}", place().await);
    let place = place().await;
    let store = inspector.store().await.unwrap();

    assert_eq!(place.slot, 5718, "protocol section 3.3");
    assert!(store.cluster && store.nodes.len() >= 3, "{store:?}");
    for node in &store.nodes {
        assert!(node.address.is_some() && node.version.is_some(), "{node:?}");
    }
}
