//! That master and replica do change places while the store contract runs.

use crate::broker_contract::bench;

/// Shows that the failovers take place, and what they mean for a store in use.
#[tokio::test]
async fn a_job_stored_before_a_failover_is_taken_after_it() {
    let mut on = bench::Store::Redis.open().await;
    on.fill(&["a"]).await;
    let site = on.server.clone().expect("Redis");
    on.give_up_turn();

    let before = site.changes();
    while site.changes() == before {
        drop(bench::Store::Redis.open().await);
    }

    assert_eq!(bench::ids(&on.take_many(9).await), ["a"]);
}
