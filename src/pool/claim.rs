//! What Sentinels say of the master, and whom to believe. Decided purely, by what was heard.

use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

use super::dial::HostPort;

/// An older answer no longer counts: this process was suspended, or the Sentinel is gone.
pub(super) const FRESH: Duration = Duration::from_secs(3);
/// The first decision waits this long for Sentinels beyond the majority.
const GRACE: Duration = Duration::from_millis(100);
/// How long a majority must contradict a newer epoch before it is believed: gossip takes
/// two seconds, and Sentinel waits eight before it demotes a replica that was promoted.
const CONTRADICTED: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct State {
    pub reports: Vec<Heard>,
    pub current: Option<Claim>,
    /// Since when a majority contradicts the current claim.
    pub contradicted: Option<Instant>,
    /// A claim whose server turned out to be no master.
    pub disproved: Option<Claim>,
    pub began: Option<Instant>,
    pub held: Option<Instant>,
}

/// The latest word of one Sentinel.
#[derive(Clone, Debug, Default)]
pub(super) enum Heard {
    #[default]
    Nothing,
    Claim(Claim, Instant),
    Error(RedisError),
}

/// What a Sentinel says: this server is master since this configuration epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub master: HostPort,
    pub epoch: u64,
}

/// Which claim to believe now; `None` leaves the decision open.
///
/// The highest epoch wins, at once. A majority that contradicts it wins only when it does
/// so for [`CONTRADICTED`], or when the newer claim's server proved to be no master.
pub(super) fn choose(state: &mut State, now: Instant) -> Option<Claim> {
    let fresh: Vec<&Claim> = state
        .reports
        .iter()
        .filter_map(|heard| match heard {
            Heard::Claim(claim, at) if *at + FRESH > now => Some(claim),
            _ => None,
        })
        .collect();
    let majority = state.reports.len() / 2 + 1;
    let votes = |claim: &Claim| fresh.iter().filter(|other| other.master == claim.master).count();
    let best = |claims: &mut dyn Iterator<Item = &Claim>| {
        claims.max_by_key(|claim| (claim.epoch, votes(claim))).cloned()
    };
    let newest = best(&mut fresh.iter().copied())?;
    // Nothing but a majority stands against a server that was named and is no master.
    if let Some(disproved) = state.disproved.clone() {
        let mut others = fresh.iter().copied().filter(|claim| claim.master != disproved.master);
        if newest.master == disproved.master
            && newest.epoch <= disproved.epoch
            && let Some(other) = best(&mut others).filter(|other| votes(other) >= majority)
        {
            state.contradicted = None;
            return Some(other);
        }
    }
    let Some(current) = state.current.clone() else {
        let heard = state.reports.iter().filter(|heard| !matches!(heard, Heard::Nothing)).count();
        let waited = state.began.is_some_and(|began| began + GRACE <= now);
        let is_enough = heard == state.reports.len() || fresh.len() >= majority && waited;
        return is_enough.then_some(newest);
    };
    if newest.epoch > current.epoch
        || newest.master == current.master && newest.epoch == current.epoch
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
    Some(if since + CONTRADICTED <= now { newest } else { current })
}

/// The reason, where every Sentinel failed.
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

    fn claim(master: u16, epoch: u64) -> Claim {
        Claim { master: ("redis".to_owned(), master), epoch }
    }

    /// Each Sentinel's word by the master's port and epoch; `None` does not answer.
    fn state(current: Option<Claim>, words: &[Option<(u16, u64)>], now: Instant) -> State {
        let heard = |word: &Option<(u16, u64)>| match *word {
            Some((master, epoch)) => Heard::Claim(claim(master, epoch), now),
            None => Heard::Error(timed_out()),
        };
        State { reports: words.iter().map(heard).collect(), current, ..State::default() }
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
            // Without epochs.
            (Some(claim(1, 0)), vec![Some((2, 0)), Some((1, 0)), None], Some(claim(1, 0))),
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
            let now = began + CONTRADICTED;
            for heard in &mut state.reports {
                if let Heard::Claim(_, at) = heard {
                    *at = now;
                }
            }
            assert_eq!(choose(&mut state, now).map(|claim| claim.master.1), Some(1));
        }
    }

    #[test]
    fn what_proved_to_be_no_master_is_believed_only_against_a_minority() {
        let now = Instant::now();
        let mut liar = state(Some(claim(9, 99)), &[Some((9, 99)), Some((1, 3)), Some((1, 3))], now);
        liar.disproved = Some(claim(9, 99));
        assert_eq!(choose(&mut liar, now), Some(claim(1, 3)));
        liar.current = Some(claim(1, 3));
        assert_eq!(choose(&mut liar, now), Some(claim(1, 3)), "it stays so");
        let mut leader = state(Some(claim(2, 4)), &[Some((2, 4)), Some((1, 3)), None], now);
        leader.disproved = Some(claim(2, 4));
        assert_eq!(choose(&mut leader, now), Some(claim(2, 4)));
    }

    #[test]
    fn a_sentinel_that_has_been_silent_for_seconds_no_longer_counts() {
        let now = Instant::now();
        let mut state = state(None, &[Some((1, 3)), Some((2, 4))], now);
        assert_eq!(choose(&mut state, now + FRESH), None);
    }

    #[test]
    fn the_first_decision_waits_for_a_majority_and_a_moment_longer() {
        let now = Instant::now();
        let mut state = state(None, &[Some((1, 3)), Some((1, 3))], now);
        state.reports.push(Heard::Nothing);
        state.began = Some(now);
        assert_eq!(choose(&mut state, now), None);
        assert_eq!(choose(&mut state, now + GRACE), Some(claim(1, 3)));
    }
}
