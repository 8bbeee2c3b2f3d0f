//! What actions leave in Redis, as any other client sees it, also if its data
//! is damaged, and that none of them makes that client wait.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::RedisServer;
use crate::support::effort::{Effort, MOST, quick};
use crate::support::harness::{Harness, START};
use rocket_jobqueue::internals::redis::wire;
use rocket_jobqueue::internals::{
    Acted, Action, Actions, Broker, BulkPosition, BulkStep, BulkStepResult, Inspect, Removal,
    SettleRequest, Sweep,
};
use rocket_jobqueue::{
    JobId, JobState, Placement, QueueName, handler::Transition, inspect::Selection,
};
use rstest::rstest;

pub(crate) fn open() -> Harness {
    let server = RedisServer::start(&[
        "--enable-debug-command",
        "yes",
        "--slowlog-log-slower-than",
        "30000",
        "--slowlog-max-len",
        "100000",
    ]);
    Harness::on(server, |_| {})
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn id(name: &str) -> JobId {
    JobId::new(name).unwrap()
}

fn later(after: u64) -> Action {
    Action::Reschedule(Placement::After(secs(after)))
}

impl Harness {
    async fn act(&self, name: &str, action: Action) -> Acted {
        self.broker.act(&self.queue, &id(name), action).await.unwrap()
    }

    async fn all(&self, action: Action, of: impl Into<Selection>) -> (u64, u64) {
        let mut sweep = Sweep::new(self.queue.clone(), action, of.into()).unwrap();
        while sweep.step(&*self.broker).await.unwrap() {}
        (sweep.done(), sweep.total())
    }

    /// One of the store's own scripts, at the time of the clock.
    pub(crate) fn script(&self, file: &str, arguments: &[&str]) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/broker/redis/lua/");
        let read = |name| std::fs::read_to_string(format!("{folder}{name}.lua")).unwrap();
        let (text, now) =
            (read("lib/common") + &read(file), self.clock.now().as_micros().to_string());
        let begin = ["EVAL", &text, "1", "asynq:{default}:pending", &now];
        self.server.cli(&[&begin, arguments].concat())
    }

    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.q("KEYS asynq:*").lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_job_that_is_run_lies_where_asynq_looks_for_a_pending_one() {
    let on = open();
    on.put(on.grouped("g", "digest")).await;
    on.put(on.grouped("s", "digest").placed(Placement::After(secs(60)))).await;
    on.clock.advance(Duration::from_millis(1_500));

    assert_eq!(on.act("g", Action::Run).await, Acted::Done);
    assert_eq!(on.act("s", Action::Run).await, Acted::Done);

    assert_eq!(on.q("LRANGE Q:pending 0 -1"), "s\ng");
    for name in ["g", "s"] {
        assert_eq!(on.q(&format!("HGET Q:t:{name} state")), "pending");
        let since = on.q(&format!("HGET Q:t:{name} pending_since"));
        assert_eq!(since, format!("{}500000000", START + 1));
        assert_eq!(on.q(&format!("HEXISTS Q:t:{name} group")), "0");
    }
    let left = on.q("EXISTS Q:scheduled Q:x:due Q:x:grouped Q:groups Q:g:digest");
    assert_eq!(left, "0", "{:?}", on.keys());
}

#[tokio::test]
async fn what_is_rescheduled_or_archived_has_whole_seconds_for_asynqs_readers() {
    let on = open();
    on.put(on.job("a")).await;
    on.put(on.job("b")).await;
    on.clock.advance(Duration::from_millis(400));

    on.act("a", Action::Reschedule(Placement::After(Duration::from_millis(1_700)))).await;
    on.act("b", Action::Archive).await;

    assert_eq!(on.q("ZSCORE Q:scheduled a"), (START + 3).to_string(), "never early");
    assert_eq!(on.q("ZSCORE Q:x:due a"), format!("{}100000", START + 2));
    assert_eq!(on.q("ZSCORE Q:archived b"), START.to_string());
    assert_eq!(on.q("HKEYS Q:t:a"), "msg\nstate");
    assert_eq!(on.q("HKEYS Q:t:b"), "msg\nstate");
    assert_eq!(on.q("EXISTS Q:pending"), "0");

    on.act("a", Action::Archive).await;
    assert_eq!(on.q("EXISTS Q:scheduled Q:x:due"), "0");
}

#[rstest]
#[case(Action::Run)]
#[case(Action::Archive)]
#[case(Action::Delete)]
#[tokio::test]
async fn a_job_in_an_aggregation_under_way_is_left_to_it(#[case] action: Action) {
    let on = open();
    on.put(on.grouped("a", "digest")).await;
    on.put(on.grouped("b", "digest")).await;
    // As a Go aggregator takes them.
    on.q("RENAME Q:g:digest Q:g:digest:9b1d");
    on.q("SREM Q:groups digest");
    on.q(&format!("ZADD Q:aggregation_sets {} Q:g:digest:9b1d", START + 120));
    let before = on.q("DEBUG DIGEST");

    assert_eq!(on.act("a", action).await, Acted::Elsewhere(JobState::Aggregating));
    assert_eq!(on.all(action, Selection::group("digest")).await, (0, 0));
    assert_eq!(on.broker.remove_queue(&on.queue, false).await.unwrap(), Removal::NotEmpty);

    assert_eq!(on.q("DEBUG DIGEST"), before);
}

#[tokio::test]
async fn an_edited_message_keeps_what_a_newer_peer_wrote() {
    let on = open();
    on.put(on.job("a").placed(Placement::After(secs(60)))).await;
    // Field 99, which this version does not know.
    on.eval(
        "redis.call('HSET', Q .. 't:a', 'msg', redis.call('HGET', Q .. 't:a', 'msg')
            .. '\\154\\6\\3new')",
    );

    assert_eq!(on.broker.edit(&on.queue, &id("a"), b"other").await.unwrap(), Acted::Done);

    let mut expected = on.job("a").record;
    expected.payload = Some(b"other".to_vec());
    let mut expected = wire::encode(&expected);
    expected.extend_from_slice(b"\x9a\x06\x03new");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found = on.eval(
        "return (string.gsub(redis.call('HGET', Q .. 't:a', 'msg'), '.', function(c)
            return string.format('%02x', string.byte(c)) end))",
    );
    assert_eq!(found, hex(&expected));
}

/// Asynq reads, and writes in a second step whatever was written in between.
#[tokio::test]
async fn an_edit_does_not_overwrite_what_changes_meanwhile() {
    let on = open();
    on.put(on.job("a")).await;
    const ATTEMPTS: u32 = 300;
    let attempts = async {
        for _ in 0..ATTEMPTS {
            let queues = [on.queue.clone()];
            let taken = on.broker.dequeue(&queues, 1).await.unwrap().deliveries.remove(0);
            let again = Transition::Retry {
                after: Duration::ZERO,
                error: "down".to_owned(),
                counted: true,
            };
            on.broker.settle(&[(taken, again).into()]).await.unwrap();
            on.broker.forward(&on.queue, 1).await.unwrap();
        }
    };
    let edits = async {
        let mut edited = 0u32;
        loop {
            match on.broker.edit(&on.queue, &id("a"), edited.to_string().as_bytes()).await {
                Ok(Acted::Done) => edited += 1,
                Ok(Acted::WrongState(JobState::Active)) => {}
                // It gave up: the message changed each time.
                Err(error) if error.is_unavailable() => {}
                other => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = attempts => {}
        () = edits => {}
    }

    let job = on.broker.job(&on.queue, &id("a")).await.unwrap().unwrap().record;
    assert_eq!(job.retried, ATTEMPTS, "no count was taken back");
    assert_ne!(job.payload_bytes(), b"{}", "it was edited");
}

#[tokio::test]
async fn a_job_deep_in_a_long_line_is_found_and_the_others_keep_their_order() {
    let on = open();
    on.eval(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 1, 30000 do
             redis.call('HSET', Q .. 't:' .. n, 'msg', M('mail', tostring(n)), 'state', 'pending')
             redis.call('LPUSH', Q .. 'pending', n)
         end",
    );
    for (n, action) in [(15_000, Action::Delete), (24_999, Action::Archive), (5_001, later(60))] {
        assert_eq!(on.act(&n.to_string(), action).await, Acted::Done, "{n}");
    }
    let order = on.eval(
        "local last, wrong = 0, 0
         for at, n in ipairs(redis.call('LRANGE', Q .. 'pending', 0, -1)) do
             if at > 1 and tonumber(n) >= last then wrong = wrong + 1 end
             last = tonumber(n)
         end
         return redis.call('LLEN', Q .. 'pending') .. ' ' .. wrong",
    );
    assert_eq!(order, "29997 0");
    // In no list: an entry that got lost.
    on.q("LREM Q:pending 0 20000");
    assert_eq!(on.act("20000", Action::Delete).await, Acted::Elsewhere(JobState::Pending));
}

/// Everything in place for each action, then one key of another type, or a job that
/// is not where it says: as a whole or not at all.
#[tokio::test]
async fn damaged_data_is_refused_and_nothing_is_changed() {
    let on = open();
    let keys = [
        "pending",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "x:due",
        "x:grouped",
        "groups",
        "g:digest",
        "t:p",
        "t:s",
        "t:g",
        "active",
        "aggregation_sets",
        "paused",
        "processed",
    ];
    let (mut refused, mut untouched) = (0, 0);
    for key in keys {
        for operation in 0..16 {
            on.q("FLUSHALL");
            on.put(on.job("x")).await;
            on.act("x", Action::Archive).await;
            on.put(on.job("p")).await;
            on.put(on.job("s").placed(Placement::After(secs(60)))).await;
            on.put(on.grouped("g", "digest")).await;
            on.eval(&format!(
                "redis.call('DEL', Q .. '{key}') redis.call('SET', Q .. '{key}', 'text')
                 redis.call('SADD', 'asynq:queues', 'default')"
            ));
            let before = on.q("DEBUG DIGEST");

            let act = async |name: &str, action| {
                on.broker.act(&on.queue, &id(name), action).await.map(|_| ()).err()
            };
            let step = async |state: JobState, action| {
                let group = if state == JobState::Aggregating { "digest" } else { "" };
                let position = BulkPosition::default();
                let (queue, job_type) = (&on.queue, None);
                let step = BulkStep { queue, action, state, group, job_type, position, limit: 9 };
                on.broker.step(&step).await.map(|_| ()).err()
            };
            let error = match operation {
                0 => act("s", Action::Run).await,
                1 => act("g", Action::Run).await,
                2 => act("p", Action::Archive).await,
                3 => act("g", Action::Archive).await,
                4 => act("p", Action::Delete).await,
                5 => act("s", Action::Delete).await,
                6 => act("x", later(9)).await,
                7 => act("s", later(9)).await,
                8 => on.broker.edit(&on.queue, &id("s"), b"1").await.map(|_| ()).err(),
                9 => step(JobState::Pending, Action::Archive).await,
                10 => step(JobState::Scheduled, Action::Run).await,
                11 => step(JobState::Archived, Action::Delete).await,
                12 => step(JobState::Aggregating, Action::Archive).await,
                13 => step(JobState::Scheduled, later(9)).await,
                14 => on.broker.trim(&on.queue, 9).await.map(|_| ()).err(),
                _ => on.broker.remove_queue(&on.queue, false).await.map(|_| ()).err(),
            };
            if let Some(error) = error {
                refused += 1;
                assert!(error.is_refused(), "{key}, operation {operation}: {error:?}");
                assert_eq!(on.q("DEBUG DIGEST"), before, "{key}, operation {operation}");
            } else {
                untouched += 1;
            }
        }
    }
    assert!(refused > 100 && untouched > 50, "{refused} and {untouched}");
}

/// Where the newest jobs move into the positions of removed ones.
#[tokio::test]
async fn a_step_in_the_middle_of_a_long_line_passes_by_what_is_no_job() {
    let on = open();
    on.eval(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 1, 510000 do
             redis.call('LPUSH', Q .. 'pending', n)
             if n > 255000 and n <= 255100 or n > 509000 then
                 local type = n <= 255100 and 'rare' or 'mail'
                 redis.call('HSET', Q .. 't:' .. n, 'msg', M(type, tostring(n)), 'state', 'pending')
             end
         end
         redis.call('DEL', Q .. 't:509999')
         redis.call('SET', Q .. 't:509999', 'text')",
    );
    let position = BulkPosition { left: Some(100), skip: 255_000 };
    let (queue, state) = (&on.queue, JobState::Pending);
    let (group, job_type) = ("", Some("rare"));
    let step =
        BulkStep { queue, action: Action::Delete, state, group, job_type, position, limit: 100 };

    assert_eq!(on.broker.step(&step).await.unwrap().done, 100);
    assert_eq!(on.q("GET Q:t:509999"), "text", "what is not ours stays");
    let left = "local seen, twice = {}, 0
        for _, id in ipairs(redis.call('LRANGE', Q .. 'pending', 0, -1)) do
            if seen[id] then twice = twice + 1 end
            seen[id] = true
        end
        return redis.call('LLEN', Q .. 'pending') .. ' ' .. twice .. ' ' ..
            redis.call('LINDEX', Q .. 'pending', -255001) .. ' ' ..
            redis.call('LINDEX', Q .. 'pending', 0)";
    // The entry whose key is no job's has left the list too.
    assert_eq!(on.eval(left), "509899 0 510000 509899");
}

/// 30,000 is beyond what one script can unpack, and what Asynq's own archiving bears.
#[tokio::test]
async fn an_archive_of_any_size_is_brought_down_with_its_hashes_and_locks() {
    let on = open();
    on.eval(
        "redis.call('SADD', 'asynq:queues', 'default')
         for n = 10001, 40000 do
             local lock = Q .. 'unique:mail:' .. n
             redis.call('HSET', Q .. 't:' .. n, 'msg', M('mail', tostring(n)), 'state', 'archived',
                 'unique_key', lock)
             redis.call('SET', lock, n)
             redis.call('ZADD', Q .. 'archived', 3999999990, n)
         end
         redis.call('SET', Q .. 'unique:mail:10001', 'another')",
    );
    on.put(on.job("new")).await;
    let queues = [on.queue.clone()];
    let taken = on.broker.dequeue(&queues, 1).await.unwrap().deliveries.remove(0);
    let archive = Transition::Archive { error: "bad".to_owned() };

    on.broker.settle(&[(taken, archive).into()]).await.unwrap();
    let after = on.q("ZCARD Q:archived").parse::<u32>().unwrap();
    assert!((29_000..30_000).contains(&after), "a part of it at a time: {after}");
    while on.broker.trim(&on.queue, 100).await.unwrap() == 100 {}

    assert_eq!(on.q("ZCARD Q:archived"), "9999");
    assert_eq!(on.q("HGET Q:t:new state"), "archived");
    let left = on.eval(
        "return #redis.call('KEYS', Q .. 't:*') .. ' ' .. #redis.call('KEYS', Q .. 'unique:*')",
    );
    assert_eq!(left, "9999 9999", "the lock of another job is the other's");
    assert_eq!(on.q("GET Q:unique:mail:10001"), "another");
}

/// Of several efforts for the same: one of them may have met a machine that had other work.
fn middle(efforts: &mut [Duration]) -> Duration {
    efforts.sort_unstable();
    efforts[efforts.len() / 2]
}

impl Harness {
    fn store_a_million(&self, state: &str, how: &str) {
        self.q("FLUSHALL");
        self.eval("redis.call('SADD', 'asynq:queues', 'default')");
        for part in 0..100 {
            let done = self.eval(&format!(
                "for n = {part} * 10000, {part} * 10000 + 9999 do
                     local id = string.format('%07d', n)
                     local type = n % 10 == 0 and 'rare' or 'mail'
                     redis.call('HSET', Q .. 't:' .. id, 'msg', M(type, id), 'state', '{state}')
                     redis.call({how})
                 end
                 return 'done'"
            ));
            assert_eq!(done, "done");
        }
        self.q("SLOWLOG RESET");
    }

    /// Steps of an action from a position on; the greatest effort of one.
    ///
    /// A step is one command. On a busy machine the server waits for a processor in
    /// the middle of one, which SLOWLOG takes for its own time; so what it computed
    /// is what counts here.
    async fn steps(
        &self,
        effort: &mut Effort,
        action: Action,
        (state, job_type): (JobState, Option<&str>),
        skip: u64,
    ) -> u64 {
        let mut position = BulkPosition { left: Some(1_000_000), skip };
        let (mut total, mut efforts) = (0, Vec::new());
        for _ in 0..10 {
            let queue = &self.queue;
            let step = BulkStep { queue, action, state, group: "", job_type, position, limit: 200 };
            let before = effort.now();
            let BulkStepResult { position: next, done, .. } =
                self.broker.step(&step).await.unwrap();
            let took = effort.now() - before;
            efforts.push(took);
            position = next;
            total += done;
        }
        let middle = middle(&mut efforts);
        assert!(middle < MOST, "{action:?} of {state} {job_type:?} from {skip}: {efforts:?}");
        total
    }

    /// An action on one job, which may take several commands. Each of them is quick.
    async fn single(&self, action: Option<Action>, first: u32) {
        let mut next = first..;
        let act = || {
            let name = id(&format!("{:07}", next.next().expect("there is no end")));
            async move {
                match action {
                    Some(action) => self.broker.act(&self.queue, &name, action).await.unwrap(),
                    None => self.broker.edit(&self.queue, &name, b"new").await.unwrap(),
                }
            }
        };
        assert_eq!(quick(&self.server, &format!("{action:?}"), act).await, Acted::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_action_on_a_million_jobs_blocks_redis() {
    let on = open();
    let mut effort = Effort::of(&on.server);

    on.store_a_million("pending", "'LPUSH', Q .. 'pending', id");
    let deepest = [
        (Action::Delete, 499_000),
        (Action::Archive, 501_000),
        (later(60), 300_000),
        (Action::Delete, 990_000),
    ];
    for (action, first) in deepest {
        on.single(Some(action), first).await;
    }
    on.single(None, 502_000).await;
    let pending = |job_type| (JobState::Pending, job_type);
    for action in [Action::Archive, Action::Delete, later(60)] {
        assert_eq!(on.steps(&mut effort, action, pending(None), 0).await, 2_000, "{action:?}");
        for skip in [1_000, 140_000, 240_000, 450_000, 700_000] {
            let done = on.steps(&mut effort, action, pending(Some("rare")), skip).await;
            assert!((180..260).contains(&done), "{action:?} from {skip}: {done}");
        }
    }

    on.store_a_million("scheduled", "'ZADD', Q .. 'scheduled', 4000100000 + n, id");
    let all = [Action::Run, Action::Archive, Action::Delete, later(60), later(9_000_000)];
    for (n, action) in all.into_iter().enumerate() {
        on.single(Some(action), 600_000 + 20 * n as u32).await;
        for (job_type, skip) in [(None, 0), (Some("rare"), 500_000), (Some("rare"), 900_000)] {
            // Where no action before it took any.
            let skip = if skip == 0 { 0 } else { skip + 5_000 * n as u64 };
            let of = (JobState::Scheduled, job_type);
            let done = on.steps(&mut effort, action, of, skip).await;
            assert!(done >= 180, "{action:?} {job_type:?} from {skip}: {done}");
        }
    }

    on.store_a_million("archived", "'ZADD', Q .. 'archived', 3999900000, id");
    for (n, action) in [Action::Run, Action::Delete, later(60)].into_iter().enumerate() {
        on.single(Some(action), 600_000 + 20 * n as u32).await;
        let of = (JobState::Archived, None);
        assert_eq!(on.steps(&mut effort, action, of, 0).await, 2_000, "{action:?}");
    }
    let queues = [on.queue.clone()];
    let archive = Transition::Archive { error: "bad".to_owned() };
    let (mut archiving, mut trimming) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let taken = on.broker.dequeue(&queues, 100).await.unwrap().deliveries;
        let settlements: Vec<_> =
            taken.into_iter().map(|one| SettleRequest::from((one, archive.clone()))).collect();
        let before = effort.now();
        on.broker.settle(&settlements).await.unwrap();
        archiving.push(effort.now() - before);
        let before = effort.now();
        assert_eq!(on.broker.trim(&on.queue, 100).await.unwrap(), 100);
        trimming.push(effort.now() - before);
    }
    assert!(middle(&mut archiving) < MOST, "while there are far too many: {archiving:?}");
    assert!(middle(&mut trimming) < MOST, "{trimming:?}");

    // All of its calls do alike: each looks at as many keys.
    let (before, calls) = (effort.now(), effort.scripts());
    assert_eq!(on.broker.remove_queue(&on.queue, true).await.unwrap(), Removal::Gone);
    let calls = u32::try_from(effort.scripts() - calls).unwrap();
    let each = (effort.now() - before) / calls;
    assert!(calls > 1_000 && each < MOST / 2, "{calls} calls, {each:?} each");
    assert_eq!(on.q("DBSIZE"), "0");
}

#[tokio::test]
async fn an_inspectors_refusal_names_the_job_and_its_state() {
    let on = open();
    let inspector = rocket_jobqueue::internals::inspector(on.broker.clone());
    let queue = &on.queue;
    let refusal = inspector.run(queue, &id("a")).await.unwrap_err();
    assert!(refusal.is_not_found());
    assert_eq!(refusal.to_string(), "queue \"default\" does not exist");

    on.put(on.job("a")).await;
    let refusal = inspector.delete(queue, &id("b")).await.unwrap_err();
    assert!(refusal.is_not_found());
    assert_eq!(refusal.to_string(), "job \"b\" does not exist");
    let refusal = inspector.run(queue, &id("a")).await.unwrap_err();
    assert!(refusal.is_wrong_state());
    assert_eq!(refusal.to_string(), "job \"a\" is pending: it cannot be run now");
    let refusal = inspector.delete_queue(queue, false).await.unwrap_err();
    assert!(refusal.is_wrong_state());
    assert_eq!(refusal.to_string(), "queue \"default\" has jobs");
    let refusal = inspector.archive_all(queue, JobState::Active).await.unwrap_err();
    assert!(refusal.is_invalid());
    assert_eq!(refusal.to_string(), "active jobs cannot be archived");
}

#[tokio::test]
async fn an_action_on_many_jobs_tells_step_by_step_how_far_it_is() {
    let on = open();
    let inspector = rocket_jobqueue::internals::inspector(on.broker.clone());
    let jobs: Vec<_> = (0..500).map(|n| on.job(&format!("{n:03}"))).collect();
    on.broker.enqueue(&jobs).await.unwrap();

    let mut bulk = inspector.archive_all(&on.queue, JobState::Pending);
    let mut seen = Vec::new();
    while let Some(progress) = bulk.step().await.unwrap() {
        seen.push((progress.done, progress.total));
    }

    assert_eq!(seen, [(200, 500), (400, 500), (500, 500)]);
    let all = inspector.delete_all(&on.queue, JobState::Archived).await.unwrap();
    assert_eq!((all.done, all.total), (500, 500));
    let nobody = QueueName::new("nobody").unwrap();
    assert!(inspector.run_all(&nobody, JobState::Retry).await.unwrap_err().is_not_found());
}
