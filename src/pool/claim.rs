//! What Sentinels say about the master, and which of them to believe: a pure decision over
//! their latest answers.
//!
//! Each Sentinel *claims* that a server is master since a configuration epoch. Normally all
//! agree. During a failover they disagree for seconds, and a Sentinel that was cut off may
//! repeat an old claim for ever. [`choose`] decides by epoch, and falls back to the majority if
//! the newest claim cannot be right.
//!
//! Both mistakes are costly. Believing an old claim sends writes to a server that will discard
//! them. Believing a wrong new one sends them to a replica, which refuses them, so that nothing
//! works. The epoch protects from the first mistake: Sentinels raise it by one with each
//! failover and agree on it by vote. A *doubt* protects from the second: the pool dialled the
//! named server and it was not a master.
//!
//! Time enters as an argument, and `sentinel` owns the [`ClaimState`] and calls [`choose`] after
//! every answer. So the tests decide with made-up times, without a server.

use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

use super::address::HostPort;

/// Older answers do not count: this process was suspended, or the Sentinel is gone.
pub(super) const ANSWER_LIFETIME: Duration = Duration::from_secs(3);
/// The first decision waits this long for Sentinels beyond the majority.
const FIRST_DECISION_DELAY: Duration = Duration::from_millis(100);
/// How long a majority must contradict a newer epoch before it is believed: gossip takes
/// two seconds, and Sentinel waits eight before it demotes a replica that was promoted.
const CONTRADICTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything the decision depends on. [`choose`] also updates `contradicted` and `doubt` in
/// it.
#[derive(Default)]
pub(super) struct ClaimState {
    /// The latest answer of each Sentinel, by its index.
    pub reports: Vec<Heard>,
    /// The claim that is believed now.
    pub current: Option<MasterClaim>,
    /// Since when a majority contradicts the current claim. Reset as soon as it no longer does.
    pub contradicted: Option<Instant>,
    /// A claim whose server does not serve as master. Only the latest one is remembered.
    pub doubt: Option<Doubt>,
    /// When the watch began to ask.
    pub began: Option<Instant>,
    /// When requests were last held back for a promotion.
    pub held: Option<Instant>,
}

/// The latest answer of one Sentinel.
#[derive(Clone, Debug, Default)]
pub(super) enum Heard {
    /// No answer yet.
    #[default]
    Nothing,
    /// It named a master, at that time.
    Claim(MasterClaim, Instant),
    /// It could not be asked.
    Error(RedisError),
}

/// What a Sentinel says: this server is master since this configuration epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MasterClaim {
    /// The server that it names.
    pub master: HostPort,
    /// `None` if this process may not ask for it.
    pub epoch: Option<u64>,
}

/// A claim whose server could not be used as master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The claim as it was made then.
    pub claim: MasterClaim,
    /// It said that it is not a master. A server that is merely unreachable may be one.
    pub is_disproved: bool,
    /// How many Sentinels made the claim then.
    pub votes: usize,
}

impl Doubt {
    /// A doubt that starts now. It keeps the present number of votes, because a claim that more
    /// Sentinels make later deserves another try.
    pub(super) fn new(
        claim: MasterClaim,
        is_disproved: bool,
        reports: &[Heard],
        now: Instant,
    ) -> Self {
        let votes = votes(&fresh(reports, now), &claim.master);
        Self { claim, is_disproved, votes }
    }
}

/// The claims that are recent enough to count.
fn fresh(reports: &[Heard], now: Instant) -> Vec<&MasterClaim> {
    let lately = |heard| match heard {
        &Heard::Claim(ref claim, at) if at + ANSWER_LIFETIME > now => Some(claim),
        _ => None,
    };
    reports.iter().filter_map(lately).collect()
}

/// Number of these claims that name this master.
fn votes(claims: &[&MasterClaim], master: &HostPort) -> usize {
    claims.iter().filter(|claim| claim.master == *master).count()
}

/// Which claim to believe now; `None` leaves the decision open.
///
/// The highest epoch wins, at once. A majority that contradicts it wins only when it does so
/// for [`CONTRADICTION_TIMEOUT`] and no Sentinel repeats the newer claim, or its server cannot
/// be reached; or at once when that server says that it is not a master. Such a claim counts
/// again when more Sentinels make it, or its server has been found to be master.
///
/// If no epoch is known, the majority wins at once.
pub(super) fn choose(state: &mut ClaimState, now: Instant) -> Option<MasterClaim> {
    let fresh = fresh(&state.reports, now);
    let majority = state.reports.len() / 2 + 1;
    let votes = |claim: &MasterClaim| votes(&fresh, &claim.master);
    let best = |claims: &mut dyn Iterator<Item = &MasterClaim>| {
        claims.max_by_key(|claim| (claim.epoch, votes(claim))).cloned()
    };
    let newest = best(&mut fresh.iter().copied())?;
    // First the newest claim's server: the pool may know that it is not a master.
    if let Some(doubt) = &mut state.doubt {
        let is_same = newest.master == doubt.claim.master;
        let mut others = fresh.iter().copied().filter(|claim| claim.master != newest.master);
        let other = best(&mut others).filter(|other| votes(other) >= majority);
        if newest.epoch > doubt.claim.epoch || is_same && votes(&newest) > doubt.votes {
            state.doubt = None;
        } else if let Some(other) = other.filter(|_| is_same) {
            let since = *state.contradicted.get_or_insert(now);
            if doubt.is_disproved || since + CONTRADICTION_TIMEOUT <= now {
                doubt.is_disproved = true;
                state.contradicted = None;
                return Some(other);
            }
            return Some(newest);
        }
    }
    // Nothing is believed yet. The fastest Sentinel may be the one with an old claim, so wait
    // for all of them, or for a majority and a moment more.
    let Some(current) = state.current.clone() else {
        let heard = state.reports.iter().filter(|heard| !matches!(heard, Heard::Nothing)).count();
        let waited = state.began.is_some_and(|began| began + FIRST_DECISION_DELAY <= now);
        let is_enough = heard == state.reports.len() || fresh.len() >= majority && waited;
        return is_enough.then_some(newest);
    };
    // A newer claim, or the same one again; without epochs, what the majority says.
    let is_same = newest.master == current.master;
    let is_known = newest.epoch.is_some() || current.epoch.is_some();
    if newest.epoch > current.epoch
        || is_same && (newest.epoch == current.epoch || newest.epoch.is_none())
        || !is_known && votes(&newest) >= majority
    {
        state.contradicted = None;
        return Some(newest);
    }
    // It is older, or as old and another server.
    if votes(&newest) < majority {
        state.contradicted = None;
        return Some(current);
    }
    let since = *state.contradicted.get_or_insert(now);
    Some(if since + CONTRADICTION_TIMEOUT <= now { newest } else { current })
}

/// The reason, if every Sentinel failed. A refusal, such as a wrong password, is preferred to
/// an I/O error: the operator can do something about it.
pub(super) fn all_failed(reports: &[Heard]) -> Option<RedisError> {
    let mut worst = None;
    for heard in reports {
        match heard {
            Heard::Error(error) if worst.is_none() || !error.is_io_error() => {
                worst = Some(error.clone());
            }
            Heard::Error(_) => {}
            Heard::Nothing | Heard::Claim(..) => return None,
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::super::failure::timed_out;
    use super::*;

    fn claim(master: u16, epoch: u64) -> MasterClaim {
        MasterClaim { master: ("redis".to_owned(), master), epoch: Some(epoch) }
    }

    /// Each Sentinel's claim as the master's port and epoch; `None` does not answer.
    fn state(
        current: Option<MasterClaim>,
        words: &[Option<(u16, u64)>],
        now: Instant,
    ) -> ClaimState {
        let heard = |word: &Option<(u16, u64)>| match *word {
            Some((master, epoch)) => Heard::Claim(claim(master, epoch), now),
            None => Heard::Error(timed_out()),
        };
        ClaimState { reports: words.iter().map(heard).collect(), current, ..ClaimState::default() }
    }

    #[test]
    fn the_newest_epoch_is_believed_and_an_older_view_is_not() {
        let now = Instant::now();
        for (current, words, expected) in [
            // At first.
            (None, vec![Some((1, 3)), Some((1, 3)), Some((1, 3))], Some(claim(1, 3))),
            (None, vec![Some((1, 3)), Some((2, 4)), Some((1, 3))], Some(claim(2, 4))),
            (None, vec![None, Some((2, 4)), None], Some(claim(2, 4))),
            (None, vec![None, None], None),
            // One that knows more.
            (Some(claim(1, 3)), vec![Some((1, 3)), Some((2, 4)), None], Some(claim(2, 4))),
            // One that has an old view, alone or with the others silent.
            (Some(claim(2, 4)), vec![Some((1, 3)), Some((2, 4)), None], Some(claim(2, 4))),
            (Some(claim(2, 4)), vec![Some((1, 3)), None, None], Some(claim(2, 4))),
            // Before the first failover.
            (Some(claim(1, 0)), vec![Some((2, 0)), Some((1, 0)), None], Some(claim(1, 0))),
            (Some(claim(1, 0)), vec![Some((2, 0)), Some((2, 0)), None], Some(claim(1, 0))),
        ] {
            assert_eq!(choose(&mut state(current, &words, now), now), expected, "{words:?}");
        }
    }

    #[test]
    fn a_majority_that_keeps_contradicting_wins() {
        let began = Instant::now();
        for words in [[Some((1, 3)), Some((1, 3)), None], [Some((1, 4)), Some((1, 4)), None]] {
            let mut state = state(Some(claim(2, 4)), &words, began);
            assert_eq!(choose(&mut state, began), Some(claim(2, 4)));
            let now = began + CONTRADICTION_TIMEOUT;
            for heard in &mut state.reports {
                if let Heard::Claim(_, at) = heard {
                    *at = now;
                }
            }
            assert_eq!(choose(&mut state, now).map(|claim| claim.master.1), Some(1));
        }
    }

    #[test]
    fn where_no_epoch_is_known_the_majority_wins_at_once() {
        let now = Instant::now();
        let unknown = |master| MasterClaim { epoch: None, ..claim(master, 0) };
        let promoted = claim(2, 1);
        for (current, masters, expected) in [
            (Some(unknown(1)), [2, 1, 1], unknown(1)),
            (Some(unknown(1)), [2, 2, 1], unknown(2)),
            (None, [1, 1, 2], unknown(1)),
            // It was seen to be promoted, which Sentinels have not said yet.
            (Some(promoted.clone()), [1, 1, 1], promoted.clone()),
            (Some(promoted), [2, 2, 1], unknown(2)),
        ] {
            let reports = masters.map(|master| Heard::Claim(unknown(master), now)).to_vec();
            let mut state = ClaimState { reports, current, ..ClaimState::default() };
            assert_eq!(choose(&mut state, now), Some(expected), "{masters:?}");
        }
    }

    fn doubt(state: &mut ClaimState, claim: MasterClaim, is_disproved: bool, now: Instant) {
        state.doubt = Some(Doubt::new(claim, is_disproved, &state.reports, now));
    }

    #[test]
    fn what_says_that_it_is_no_master_is_believed_only_against_a_minority() {
        let now = Instant::now();
        let mut liar = state(Some(claim(9, 99)), &[Some((9, 99)), Some((1, 3)), Some((1, 3))], now);
        doubt(&mut liar, claim(9, 99), true, now);
        assert_eq!(choose(&mut liar, now), Some(claim(1, 3)));
        liar.current = Some(claim(1, 3));
        assert_eq!(choose(&mut liar, now), Some(claim(1, 3)), "it stays so");
        liar.reports[1] = Heard::Claim(claim(9, 99), now);
        assert_eq!(choose(&mut liar, now), Some(claim(9, 99)), "more say so");
        let mut leader = state(Some(claim(2, 4)), &[Some((2, 4)), Some((1, 3)), None], now);
        doubt(&mut leader, claim(2, 4), true, now);
        assert_eq!(choose(&mut leader, now), Some(claim(2, 4)));
    }

    #[test]
    fn a_new_master_out_of_reach_is_given_the_time_of_a_contradiction() {
        let began = Instant::now();
        let words = [Some((2, 4)), Some((1, 3)), Some((1, 3))];
        let mut state = state(Some(claim(2, 4)), &words, began);
        doubt(&mut state, claim(2, 4), false, began);
        assert_eq!(choose(&mut state, began), Some(claim(2, 4)), "gossip takes its time");
        let now = began + CONTRADICTION_TIMEOUT;
        for heard in &mut state.reports {
            if let Heard::Claim(_, at) = heard {
                *at = now;
            }
        }
        assert_eq!(choose(&mut state, now), Some(claim(1, 3)));
        state.current = Some(claim(1, 3));
        assert_eq!(choose(&mut state, now), Some(claim(1, 3)), "it stays so");
        // Found to be master.
        state.doubt = None;
        assert_eq!(choose(&mut state, now), Some(claim(2, 4)));
    }

    #[test]
    fn a_sentinel_that_has_been_silent_for_seconds_no_longer_counts() {
        let now = Instant::now();
        let mut state = state(None, &[Some((1, 3)), Some((2, 4))], now);
        assert_eq!(choose(&mut state, now + ANSWER_LIFETIME), None);
    }

    #[test]
    fn the_first_decision_waits_for_a_majority_and_a_moment_longer() {
        let now = Instant::now();
        let mut state = state(None, &[Some((1, 3)), Some((1, 3))], now);
        state.reports.push(Heard::Nothing);
        state.began = Some(now);
        assert_eq!(choose(&mut state, now), None);
        assert_eq!(choose(&mut state, now + FIRST_DECISION_DELAY), Some(claim(1, 3)));
    }
}
