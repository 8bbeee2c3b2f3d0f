//! Random sequences of operations on a queue with limits: whatever happens, no limit is exceeded, no
//! job is lost, and the doctor finds nothing. A sequence that fails names its seed.

use std::collections::{BTreeMap, VecDeque};

use rocket_jobqueue::internals::{Action, RepairScope};
use rocket_jobqueue::limits::{Limit, LimitKey, Rate};

use super::limits::of_account;
use crate::broker_contract::bench::*;

const OPERATIONS: usize = 80;
const ACCOUNTS: usize = 3;
/// Numbers of the rate of the limit `all`.
const STARTS: usize = 7;

/// A job that runs under a lease that nobody has taken away.
struct Run {
    delivery: Delivery,
    account: usize,
    /// How many limits had been set when it was dequeued.
    limits_before: usize,
}

/// A limit as it was set.
#[derive(Clone, Copy)]
struct Set {
    most: usize,
    /// How many limits had been set before: older runs do not count for it.
    nth: usize,
}

struct Walk {
    on: OpenStore,
    seed: u64,
    stored: usize,
    /// Jobs that have not ended, by account.
    alive: BTreeMap<JobId, usize>,
    runs: Vec<Run>,
    stale: Vec<Delivery>,
    limits_set: usize,
    /// At most so many of an account at once.
    per_account: Set,
    /// At most so many at once, and starts in a second; it comes and goes.
    all: Option<Set>,
    starts: VecDeque<Timestamp>,
}

impl Walk {
    async fn begin(on: OpenStore, seed: u64) -> Self {
        let nothing = Set { most: 1, nth: 0 };
        let mut walk = Self {
            on,
            seed,
            stored: 0,
            alive: BTreeMap::new(),
            runs: Vec::new(),
            stale: Vec::new(),
            limits_set: 0,
            per_account: nothing,
            all: None,
            starts: VecDeque::new(),
        };
        walk.limit_accounts(1).await;
        walk
    }

    fn draw(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) as usize % below
    }

    async fn limit_accounts(&mut self, most: usize) {
        let key = LimitKey::parse("payload.account.id").unwrap();
        let limit = Limit::new("account").key(key).concurrency(most as u32);
        self.on.set_limit(&limit).await;
        // Those that run count on.
        self.per_account = Set { most, nth: 0 };
        self.limits_set += 1;
    }

    async fn limit_all(&mut self, most: usize) {
        let rate = Rate::parse(&format!("{STARTS}/1s")).unwrap().burst(STARTS as u32);
        self.on.set_limit(&Limit::new("all").concurrency(most as u32).rate(rate)).await;
        if self.all.is_none() {
            self.starts.clear();
        }
        let nth = self.all.map_or(self.limits_set + 1, |set| set.nth);
        self.all = Some(Set { most, nth });
        self.limits_set += 1;
    }

    async fn enqueue(&mut self) {
        let account = self.draw(ACCOUNTS);
        let name = format!("job-{:03}", self.stored);
        self.stored += 1;
        let mut job = of_account(&self.on, &name, &account.to_string());
        if self.draw(4) == 0 {
            job = job.placed(Placement::After(secs(2)));
        }
        assert!(created(&self.on.put(job).await));
        self.alive.insert(id(&name), account);
    }

    async fn dequeue(&mut self, most: usize) -> usize {
        let taken = self.on.take_many(most).await;
        let number = taken.len();
        for delivery in taken {
            let account = self.alive[&delivery.job.id];
            let limits_before = self.limits_set;
            self.starts.push_back(self.on.clock.now());
            self.runs.push(Run { delivery, account, limits_before });
            let of_account = self.runs.iter().filter(|run| run.account == account).count();
            assert!(of_account <= self.per_account.most, "{of_account} of account {account}");
            let Some(set) = self.all else { continue };
            let counted = self.runs.iter().filter(|run| run.limits_before >= set.nth).count();
            assert!(counted <= set.most, "{counted} of {}", set.most);
            let now = self.on.clock.now();
            let within = self.starts.iter().filter(|at| now.since(**at) < secs(1)).count();
            assert!(within <= STARTS, "{within} starts in a second");
        }
        number
    }

    async fn settle(&mut self, end: Transition) {
        if self.runs.is_empty() {
            return;
        }
        let nth = self.draw(self.runs.len());
        let run = self.runs.swap_remove(nth);
        let ends = matches!(end, Transition::Complete { .. } | Transition::Archive { .. });
        assert_eq!(self.on.settle(&run.delivery, end).await, Settled::Done);
        if ends {
            self.alive.remove(&run.delivery.job.id);
        }
    }

    /// All workers vanish, and what they ran is recovered.
    async fn lose_workers(&mut self) {
        self.on.clock.advance(LEASE + secs(1));
        for found in self.on.first_expired_leases(100).await {
            assert_eq!(self.on.settle(&found, reclaim()).await, Settled::Done);
        }
        self.stale.extend(self.runs.drain(..).map(|run| run.delivery));
    }

    async fn renew(&mut self) {
        for run in &mut self.runs {
            let lease = self.on.extend(&run.delivery.lease).await;
            run.delivery.lease = lease.expect("it has not expired");
        }
    }

    async fn operate(&mut self, action: Action) {
        let Some(nth) = (!self.alive.is_empty()).then(|| self.draw(self.alive.len())) else {
            return;
        };
        let id = self.alive.keys().nth(nth).cloned().expect("there are more");
        let acted = self.on.act(id.as_str(), action).await;
        let is_done = acted == rocket_jobqueue::internals::Acted::Done;
        if is_done && matches!(action, Action::Archive | Action::Delete) {
            self.alive.remove(&id);
        }
    }

    async fn step(&mut self) {
        match self.draw(20) {
            0..=4 => self.enqueue().await,
            5..=8 => {
                let most = 1 + self.draw(4);
                self.dequeue(most).await;
            }
            9 | 10 => self.settle(done()).await,
            11 => self.settle(retry(secs(1))).await,
            12 => self.settle(Transition::Requeue).await,
            13 => self.settle(archive()).await,
            14 => {
                let millis = self.draw(900) as u64;
                self.on.clock.advance(Duration::from_millis(millis));
                self.on.forward().await;
            }
            15 if self.draw(3) == 0 => self.lose_workers().await,
            15 => self.renew().await,
            16 => {
                let actions = [
                    Action::Run,
                    Action::RunNext,
                    Action::Reschedule(Placement::After(secs(3))),
                    Action::Archive,
                    Action::Delete,
                ];
                let action = actions[self.draw(actions.len())];
                self.operate(action).await;
            }
            17 => {
                let most = 1 + self.draw(3);
                self.limit_accounts(most).await;
            }
            18 if self.draw(3) == 0 => {
                self.on.broker.remove_limit(&self.on.queue, "all").await.unwrap();
                self.all = None;
            }
            18 => {
                let most = 1 + self.draw(4);
                self.limit_all(most).await;
            }
            _ => {
                let paused = self.draw(2) == 0;
                self.on.pause(paused).await;
                self.on.delete_expired().await;
                // A worker that has lost its lease changes nothing.
                if let Some(stale) = self.stale.pop()
                    && !self.alive.contains_key(&stale.job.id)
                {
                    assert_eq!(self.on.settle(&stale, done()).await, Settled::Lost);
                }
            }
        }
    }

    /// Nothing is lost: all that has not ended does.
    async fn drain(&mut self) {
        self.on.pause(false).await;
        self.lose_workers().await;
        for _ in 0..40 * OPERATIONS {
            if self.alive.is_empty() {
                break;
            }
            let wait = self.on.forward().await.next;
            if self.dequeue(10).await == 0 && self.runs.is_empty() {
                let wait = wait.unwrap_or_default().clamp(Duration::from_millis(100), secs(60));
                self.on.clock.advance(wait);
            }
            while !self.runs.is_empty() {
                self.settle(done()).await;
            }
        }
        assert!(self.alive.is_empty(), "never ended: {:?}", self.alive);
        for limit in self.on.broker.limits(&self.on.queue).await.unwrap() {
            assert_eq!((limit.in_use, limit.waiting), (0, 0), "{limit:?}");
        }
    }

    async fn is_sound(&self) {
        let mut page = None;
        loop {
            let checked = self.on.broker.check_queue(&self.on.queue, page, RepairScope::Nothing);
            let checked = checked.await.unwrap();
            assert!(checked.findings.is_empty(), "{:?}", checked.findings);
            page = checked.next;
            if page.is_none() {
                return;
            }
        }
    }
}

#[rstest]
#[case::memory(Store::Memory, 60)]
#[case::disk(Store::Disk, 10)]
#[case::redis(Store::Redis, 8)]
#[tokio::test]
async fn no_limit_is_exceeded_and_no_job_lost_whatever_happens(
    #[case] store: Store,
    #[case] sequences: u64,
) {
    for seed in 0..sequences {
        let mut walk = Walk::begin(store.open().await, seed).await;
        println!("seed {seed}");
        for nth in 0..OPERATIONS {
            walk.step().await;
            if nth % 8 == 0 {
                walk.is_sound().await;
            }
        }
        walk.drain().await;
        walk.is_sound().await;
    }
}
