//! Keeps `fjall`'s lines about opening out of the log: it tells at level *info* of each launch,
//! which our own line does.
//!
//! Rocket's logger takes the lines of every crate, and nobody can choose among them. The level
//! of the facade is the only way, and it is one of the process: lines of others at *info* and
//! below are lost meanwhile. Warnings and errors are not.

use std::sync::Mutex;

use log::LevelFilter;

use crate::sync::lock;

/// How many are hushed now, and the level before.
static HUSHED: Mutex<(usize, LevelFilter)> = Mutex::new((0, LevelFilter::Off));

/// While one of these lives, the facade `log` takes only warnings and errors.
pub(super) struct Hush(());

impl Hush {
    pub(super) fn begin() -> Self {
        let mut hushed = lock(&HUSHED);
        if hushed.0 == 0 {
            hushed.1 = log::max_level();
            log::set_max_level(hushed.1.min(LevelFilter::Warn));
        }
        hushed.0 += 1;
        Self(())
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        let mut hushed = lock(&HUSHED);
        hushed.0 -= 1;
        // Another level now is the choice of somebody else, made meanwhile.
        if hushed.0 == 0 && log::max_level() == hushed.1.min(LevelFilter::Warn) {
            log::set_max_level(hushed.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_comes_back_with_the_last_one() {
        let before = log::max_level();
        log::set_max_level(LevelFilter::Debug);
        let (first, second) = (Hush::begin(), Hush::begin());
        drop(first);
        assert_eq!(log::max_level(), LevelFilter::Warn);
        drop(second);
        assert_eq!(log::max_level(), LevelFilter::Debug);
        log::set_max_level(before);
    }
}
