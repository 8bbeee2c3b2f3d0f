//! What a worker process guarantees while its threads are blocked, its leases are lost
//! and its clock is set: no job runs beside itself, and nothing that was done is lost.

use std::time::{Duration, Instant};

use crate::support::wall_clock::WallClock;
use crate::support::workers::{WorkerFleet, far_away, twice, worker_process};
use crate::support::{PATIENCE, eventually};
use rstest::rstest;

#[test]
fn a_worker_process() {
    worker_process();
}

/// Long before a lease of 30 s ends.
const SOON: Duration = Duration::from_secs(20);

/// Cases that take minutes run only if this is set.
fn long() -> bool {
    std::env::var_os("JOBQUEUE_LONG_TESTS").is_some()
}

async fn blocking_handlers(workers: usize, threads: usize, jobs: usize, blocks: u64) {
    let mut bench = WorkerFleet::start().await;
    bench.recover();
    for _ in 0..jobs {
        bench.put(0, blocks).await;
    }
    for _ in 0..workers {
        bench.add_worker(threads, 10);
    }
    let rounds = jobs.div_ceil(workers * threads.max(1)) as u64;
    let began = Instant::now();
    let done = eventually(Duration::from_millis(rounds * blocks) * 3 + PATIENCE, || async {
        bench.processed() >= jobs
    });
    let done = done.await;
    let (more, beside) = twice(&bench.runs());
    println!(
        "{workers} workers, {threads} threads, {jobs} jobs of {blocks} ms: {:?}; {} done, more \
         than once {more}, beside themselves {beside}, leases lost {}",
        began.elapsed(),
        bench.processed(),
        bench.recovered(),
    );
    assert!(done, "{}", bench.log(0));
    bench.assert_each_ran_once(jobs);
}

#[rstest]
#[case::two_threads(2, 24)]
#[case::one_thread(1, 12)]
#[case::current_thread(0, 12)]
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_block_all_threads_for_20_s_lose_no_lease(
    #[case] threads: usize,
    #[case] jobs: usize,
) {
    if long() {
        blocking_handlers(2, threads, jobs, 20_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_lease_was_lost_is_not_started_62_s_later() {
    if long() {
        blocking_handlers(1, 1, 2, 62_000).await;
    }
}

/// A job that a worker cannot start within a second is for others to run, and is delivered
/// to it again when its thread is free.
#[rstest]
#[case::one_thread(1)]
#[case::current_thread(0)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_blocked_worker_cannot_start_goes_back_uncounted(#[case] threads: usize) {
    let mut bench = WorkerFleet::start().await;
    for _ in 0..3 {
        bench.put_blocking().await;
    }
    bench.add_worker(threads, 10);
    bench.until_begun(1).await;
    let back = || async { bench.q("LLEN Q:pending") == "2" };
    assert!(eventually(SOON, back).await, "{}", bench.log(0));
    assert_eq!(bench.q("LLEN Q:active"), "1");
    bench.release();
    bench.until_processed(3, PATIENCE).await;
    assert_eq!(bench.q("GET Q:failed"), "");
    bench.assert_each_ran_once(3);
}

/// The second job keeps the only thread from the moment at which the first one ends.
#[rstest]
#[case::one_thread(1)]
#[case::current_thread(0)]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_settled_although_all_threads_are_taken(#[case] threads: usize) {
    let mut bench = WorkerFleet::start().await;
    bench.put(0, 300).await;
    bench.put_blocking().await;
    bench.add_worker(threads, 10);
    bench.until_begun(2).await;
    bench.until_processed(1, SOON).await;
    let other = bench.runs().values().filter(|runs| runs[0].ended.is_none()).count();
    assert_eq!(other, 1, "{:#?}", bench.runs());
    bench.release();
    bench.until_processed(2, PATIENCE).await;
    bench.assert_each_ran_once(2);
}

/// One handler waits, the other keeps its thread; both go on under new leases.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_given_a_job_it_still_runs_does_not_run_it_twice() {
    let mut bench = WorkerFleet::start().await;
    bench.recover();
    bench.put(8_000, 0).await;
    bench.put(0, 8_000).await;
    bench.add_worker(3, 10);
    bench.until_begun(2).await;
    for id in bench.q("ZRANGE Q:lease 0 -1").lines() {
        bench.q(&format!("ZADD Q:lease 1000.5 {id}"));
    }
    assert!(eventually(PATIENCE, || async { bench.recovered() == 2 }).await);

    bench.until_processed(2, PATIENCE).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runs = bench.runs();
    assert_eq!((runs.len(), twice(&runs), bench.processed()), (2, (0, 0), 2), "{runs:#?}");
    assert_eq!(bench.q("EXISTS Q:active Q:lease Q:pending"), "0");
}

/// They wait for their turn, which does not come while the thread is taken.
#[tokio::test(flavor = "multi_thread")]
async fn suspects_that_a_blocked_worker_cannot_start_go_back_as_suspects() {
    let mut bench = WorkerFleet::start().await;
    for _ in 0..2 {
        let id = bench.put_blocking().await;
        bench.q(&format!("HSET Q:t:{id} x_lost 2"));
    }
    bench.add_worker(1, 10);
    bench.until_begun(1).await;
    let back = || async { bench.q("LLEN Q:pending") == "1" };
    assert!(eventually(SOON, back).await, "{}", bench.log(0));
    let waits = bench.q("LINDEX Q:pending 0");
    assert_eq!(bench.q(&format!("HGET Q:t:{waits} x_lost")), "2");
    bench.release();
    bench.until_processed(2, PATIENCE).await;
    bench.assert_each_ran_once(2);
}

/// The jobs end one after another while all round trips are under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_far_away_store_is_asked_for_many_jobs_at_a_time() {
    const JOBS: usize = 300;
    let mut bench = WorkerFleet::start().await;
    for nth in 0..JOBS as u64 {
        bench.put(nth * 37 % 700, 0).await;
    }
    bench.front = Some(far_away(bench.redis.addr(), Duration::from_millis(150)).await);
    let calls = |bench: &WorkerFleet| {
        let stats = bench.q("INFO commandstats");
        let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.filter_map(|line| line.split(',').next()?.parse::<usize>().ok()).sum::<usize>()
    };
    let before = calls(&bench);
    bench.add_worker(2, 100);
    bench.until_processed(JOBS, PATIENCE).await;
    let scripts = calls(&bench) - before;
    println!("{scripts} scripts for {JOBS} jobs");
    assert!(scripts < JOBS / 2, "{scripts} scripts for {JOBS} jobs");
    bench.assert_each_ran_once(JOBS);
}

/// The job cannot be delivered to it again. It learns of the loss with the next extension,
/// or when it settles what has ended.
#[rstest]
#[case::awaits(12_000, 0)]
#[case::blocks(0, 12_000)]
#[case::settles_before_the_heartbeat(0, 1_500)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_process_keeps_the_job_whose_lease_it_lost(
    #[case] awaits: u64,
    #[case] blocks: u64,
) {
    let mut bench = WorkerFleet::start().await;
    bench.recover();
    bench.put(awaits, blocks).await;
    bench.add_worker(2, 1);
    bench.until_begun(1).await;
    for id in bench.q("ZRANGE Q:lease 0 -1").lines() {
        bench.q(&format!("ZADD Q:lease 1000.5 {id}"));
    }
    assert!(eventually(PATIENCE, || async { bench.recovered() == 1 }).await);

    bench.until_processed(1, PATIENCE).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runs = bench.runs();
    assert_eq!((runs.len(), twice(&runs), bench.processed()), (1, (0, 0), 1), "{runs:#?}");
    assert_eq!(bench.q("EXISTS Q:active Q:lease Q:pending"), "0");
}

const HOUR: i64 = 3600;

/// An answer that takes 64 ms used to say nothing of the store's time.
#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_set_ends_no_attempt() {
    let mut bench = WorkerFleet::start().await;
    bench.recover();
    bench.front = Some(far_away(bench.redis.addr(), Duration::from_millis(32)).await);
    let clock = WallClock::new(bench.folder.path());
    bench.variables.extend(clock.variables());
    for _ in 0..40 {
        bench.put(16_000, 0).await;
    }
    bench.add_worker(2, 40);
    bench.until_begun(40).await;
    for ahead in [2 * HOUR, -2 * HOUR] {
        clock.set(ahead);
        // The heartbeat looks every five seconds.
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    bench.until_processed(40, PATIENCE).await;
    assert_eq!(bench.q("GET Q:failed"), "", "{}", bench.log(0));
    bench.assert_each_ran_once(40);
}
