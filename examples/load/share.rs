//! Holds processes to a share of a core, as `cpulimit` does: one that used more than its share is
//! stopped, and goes on when the share has caught up. That needs no rights and no cgroups. What they
//! really used is read from the kernel.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// How often each process is looked at. It runs for about as long at a time, so that a call waits
/// for milliseconds, not for a tenth of a second.
const TICK: Duration = Duration::from_micros(300);

/// An idle process saves up no more than this much of its share.
const SAVED: f64 = 1e-3;

/// CPU seconds of a process' main thread, which is all of a Redis that does not persist.
pub fn used(pid: u32) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanos = text.split_whitespace().next().ok_or("schedstat: expected a number")?;
    Ok(nanos.parse::<f64>()? / 1e9)
}

/// Holds processes until it is dropped.
pub struct Share {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Share {
    /// Each of the processes gets this part of a core.
    pub fn hold(pids: &[u32], part: f64) -> Outcome<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let mut held = pids.iter().map(|&pid| Held::of(pid)).collect::<Outcome<Vec<_>>>()?;
        let seen = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !seen.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let passed = last.elapsed().as_secs_f64();
                last = Instant::now();
                held.iter_mut().for_each(|one| one.look(passed * part));
            }
            held.iter_mut().for_each(Held::go_on);
        });
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One process.
struct Held {
    pid: u32,
    id: Pid,
    used: f64,
    /// What it may use now, in seconds; below zero it has to wait.
    credit: f64,
    stopped: bool,
}

impl Held {
    fn of(pid: u32) -> Outcome<Self> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("expected a process id")?;
        Ok(Self { pid, id, used: used(pid)?, credit: 0.0, stopped: false })
    }

    fn look(&mut self, earned: f64) {
        // A process that has ended is not held any more.
        let Ok(used) = used(self.pid) else { return };
        self.credit = (self.credit + earned - (used - self.used)).min(SAVED);
        self.used = used;
        if self.credit < 0.0 && !self.stopped {
            self.stopped = kill_process(self.id, Signal::STOP).is_ok();
        } else if self.credit >= 0.0 {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        if self.stopped {
            self.stopped = kill_process(self.id, Signal::CONT).is_err();
        }
    }
}
