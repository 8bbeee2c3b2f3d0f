//! What the death of a worker says about the jobs it had.

use rocket_jobqueue::internals::{Delivery, Lease, Settled};
use rocket_jobqueue::{Charge, JobState, handler::Transition};
use rstest::rstest;

use super::bench::*;

fn put_back(secs_later: u64) -> Transition {
    Transition::PutBack { after: secs(secs_later), error: "gone".to_owned() }
}

impl OpenStore {
    /// A job that lost its worker this many times, dequeued once more.
    async fn take_lost(&self, name: &str, times: u32) -> Delivery {
        self.fill(&[name]).await;
        for _ in 0..times {
            self.run(reclaim()).await;
        }
        let taken = self.take().await;
        assert_eq!(taken.losses, times);
        taken
    }

    /// What is said of each when all leases have run out.
    async fn charges(&self, last: &Lease) -> Vec<Charge> {
        self.pass(last);
        let mut found = self.first_expired_leases(9).await;
        found.sort_by(|a, b| a.lease.id.as_str().cmp(b.lease.id.as_str()));
        found.iter().map(|one| one.charge).collect()
    }
}

#[rstest]
#[tokio::test]
async fn all_that_was_in_flight_may_be_the_cause(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.take_lost("a", 0).await;
    let last = on.take_lost("b", 1).await;

    assert_eq!(on.charges(&last.lease).await, [Charge::Possible, Charge::Possible]);
}

#[rstest]
#[tokio::test]
async fn only_the_suspect_that_had_started_is_charged(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    on.take_lost("a", 0).await;
    on.take_lost("b", 1).await;
    let suspect = on.take_lost("c", 2).await;
    let last = on.take_lost("d", 2).await;
    assert!(on.broker.begin_suspect(&suspect.lease, 1).await.unwrap());

    let charges = on.charges(&last.lease).await;

    let cleared = Charge::Cleared;
    assert_eq!(charges, [cleared, cleared, Charge::Proven, cleared]);
    on.broker.end_suspect(0).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_suspect_that_ended_clears_nobody(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let suspect = on.take_lost("a", 2).await;
    assert!(on.broker.begin_suspect(&suspect.lease, 1).await.unwrap());
    assert_eq!(on.settle(&suspect, done()).await, Settled::Done);
    on.broker.end_suspect(0).await.unwrap();
    let last = on.take_lost("b", 0).await;

    assert_eq!(on.charges(&last.lease).await, [Charge::Possible]);
}

#[rstest]
#[tokio::test]
async fn two_suspects_that_ran_side_by_side_prove_nothing(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let (one, other) = (on.take_lost("a", 2).await, on.take_lost("b", 2).await);
    assert!(on.broker.begin_suspect(&one.lease, 1).await.unwrap());
    assert!(on.broker.begin_suspect(&other.lease, 2).await.unwrap());

    assert_eq!(on.charges(&other.lease).await, [Charge::Possible, Charge::Possible]);
    on.broker.end_suspect(0).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_start_counts_for_its_own_delivery_only(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
) {
    let on = store.open().await;
    let first = on.take_lost("a", 2).await;
    assert!(on.broker.begin_suspect(&first.lease, 1).await.unwrap());
    assert_eq!(on.settle(&first, put_back(0)).await, Settled::Done);
    on.broker.end_suspect(0).await.unwrap();
    let second = on.take().await;
    assert!(!on.broker.begin_suspect(&first.lease, 1).await.unwrap(), "it is not the owner");
    on.broker.end_suspect(0).await.unwrap();

    assert_eq!(on.charges(&second.lease).await, [Charge::Cleared]);
}

#[rstest]
#[tokio::test]
async fn a_job_that_is_put_back_keeps_its_losses(
    #[values(Store::Memory, Store::MemoryNamespace, Store::Disk, Store::Redis)] store: Store,
    #[values(0, 5)] after: u64,
) {
    let on = store.open().await;
    let taken = on.take_lost("a", 2).await;

    assert_eq!(on.settle(&taken, put_back(after)).await, Settled::Done);

    let info = on.see("a").await;
    let state = if after == 0 { JobState::Pending } else { JobState::Retry };
    assert_eq!((info.state, info.losses, info.record.retried), (state, 2, 0));
    assert_eq!(info.record.last_error, "gone");
    assert_eq!(on.counters().await, (0, 0));
    on.clock.advance(secs(after));
    on.forward().await;
    assert_eq!(on.take().await.losses, 2);
}
