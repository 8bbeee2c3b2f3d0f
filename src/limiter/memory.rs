//! Counts in this process. The number of clients is bounded: a flood of new ones displaces the
//! clients whose windows end first, which then start with empty windows.
//!
//! A count is a look into a map under a lock, without I/O. A window is measured by a monotonic
//! clock, so setting the host's clock neither frees a client early nor locks it out for long.
//! Each process counts for itself: with three processes behind a load balancer a client has
//! three times the limit. [`RedisCounter`](super::RedisCounter) counts for all of them
//! together.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::{CountedRequest, HOUR, Limits, MINUTE};
use crate::sync::lock;
use crate::time::{Clock, Timestamp};

/// Maximum clients that are remembered, about 15 MB.
const MAX_CLIENTS: usize = 100_000;

/// One window of a client. It keeps the end rather than the beginning: a window that has ended,
/// and one that never began, then look the same.
#[derive(Clone, Copy)]
struct Open {
    count: u32,
    ends: Timestamp,
}

impl Open {
    /// How many requests it has, and how long until it ends; one that has ended begins
    /// again.
    fn at(self, now: Timestamp, length: Duration) -> (u32, Duration) {
        let left = self.ends.since(now);
        // A clock that was set back makes no window longer.
        if left.is_zero() { (0, length) } else { (self.count, left.min(length)) }
    }

    /// The window with one more request. A window that has ended begins again.
    fn with_one_more(self, now: Timestamp, length: Duration) -> Self {
        let (count, left) = self.at(now, length);
        Self { count: count.saturating_add(1), ends: now + left }
    }
}

/// The two windows of a client. The one of an hour stays closed if there is no limit per hour.
#[derive(Clone, Copy)]
struct Windows {
    minute: Open,
    hour: Open,
}

impl Windows {
    /// When the last of the two windows ends.
    fn ends(&self) -> Timestamp {
        self.minute.ends.max(self.hour.ends)
    }
}

/// Counts in this process. The keys are clients, at most `most`: [`MAX_CLIENTS`], or fewer in
/// tests. A client is a text such as an IP address; the web layer decides what it is.
pub(crate) struct MemoryCounter {
    clock: Clock,
    most: usize,
    clients: Mutex<HashMap<Box<str>, Windows>>,
}

impl MemoryCounter {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, most: MAX_CLIENTS, clients: Mutex::default() }
    }

    /// Counts a request of this client, unless a window is full.
    pub(crate) fn count(&self, client: &str, limits: Limits) -> CountedRequest {
        // A window lasts as long as it says, wherever the host's clock is set to.
        let now = self.clock.steady();
        let mut clients = lock(&self.clients);
        let closed = Open { count: 0, ends: Timestamp::default() };
        let known = clients.get(client).copied();
        let mut windows = known.unwrap_or(Windows { minute: closed, hour: closed });
        let (minute, hour) = (windows.minute.at(now, MINUTE), windows.hour.at(now, HOUR));
        let passes = minute.0 < limits.minute && limits.hour.is_none_or(|limit| hour.0 < limit);
        if !passes {
            return CountedRequest::of(limits, false, minute, hour);
        }
        windows.minute = windows.minute.with_one_more(now, MINUTE);
        if limits.hour.is_some() {
            windows.hour = windows.hour.with_one_more(now, HOUR);
        }
        if known.is_none() && clients.len() >= self.most {
            make_room(&mut clients, now);
        }
        clients.insert(client.into(), windows);
        let (minute, hour) = (windows.minute.at(now, MINUTE), windows.hour.at(now, HOUR));
        CountedRequest::of(limits, true, minute, hour)
    }
}

/// Forgets clients whose windows are over; if those are less than a tenth, also the clients
/// whose windows end first. So the next call of this kind is far away, and its cost, which
/// grows with the number of clients, is spread over many requests.
fn make_room(clients: &mut HashMap<Box<str>, Windows>, now: Timestamp) {
    let tenth = (clients.len() / 10).max(1);
    let before = clients.len();
    clients.retain(|_, windows| windows.ends() > now);
    let missing = tenth.saturating_sub(before - clients.len());
    if missing == 0 {
        return;
    }
    let mut ends: Vec<Timestamp> = clients.values().map(Windows::ends).collect();
    let (_, last, _) = ends.select_nth_unstable(missing - 1);
    let last = *last;
    clients.retain(|_, windows| windows.ends() > last);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn counter() -> (Clock, MemoryCounter) {
        let clock = Clock::manual(Timestamp::from_secs(1_000_000));
        (clock.clone(), MemoryCounter::new(clock))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn windows_begin_with_the_first_request_and_refused_ones_are_not_counted() {
        let (clock, counter) = counter();
        let limits = Limits { minute: 2, hour: Some(3) };
        let counted = counter.count("a", limits);
        assert!(counted.passes);
        assert_eq!((counted.minute.remaining, counted.minute.ends_in), (1, MINUTE));
        clock.advance(SECOND * 59);
        assert!(counter.count("a", limits).passes);
        for _ in 0..5 {
            let refused = counter.count("a", limits);
            assert!(!refused.passes);
            assert_eq!((refused.minute.remaining, refused.wait()), (0, SECOND));
            assert_eq!(refused.hour.unwrap().remaining, 1);
        }
        // Another client has windows of its own.
        assert!(counter.count("b", limits).passes);
        clock.advance(SECOND);
        let third = counter.count("a", limits);
        assert!(third.passes);
        assert_eq!(third.minute.ends_in, MINUTE);
        assert_eq!(third.hour.unwrap().ends_in, HOUR - MINUTE);
        // The hour is full now, the minute is not.
        let refused = counter.count("a", limits);
        assert!(!refused.passes);
        assert_eq!((refused.minute.remaining, refused.wait()), (1, HOUR - MINUTE));
        clock.advance(HOUR - MINUTE);
        assert!(counter.count("a", limits).passes);
    }

    #[test]
    fn a_thousand_at_once_are_counted_exactly() {
        let (_, counter) = counter();
        let counter = Arc::new(counter);
        let limits = Limits { minute: 300, hour: None };
        let threads = (0..20).map(|_| {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || {
                (0..50).filter(|_| counter.count("a", limits).passes).count()
            })
        });
        let passed: usize =
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(passed, 300);
    }

    #[test]
    fn a_flood_of_clients_displaces_those_whose_windows_end_first() {
        let (clock, mut counter) = counter();
        counter.most = 1000;
        let limits = Limits { minute: 1, hour: None };
        for n in 0..10_000 {
            assert!(counter.count(&format!("client {n}"), limits).passes);
            clock.advance(Duration::from_millis(1));
            assert!(counter.clients.lock().unwrap().len() <= 1000);
        }
        // The latest are still known.
        assert!(!counter.count("client 9999", limits).passes);
        assert!(!counter.count("client 9500", limits).passes);
        clock.advance(MINUTE * 2);
        assert!(counter.count("one more", limits).passes);
    }
}
