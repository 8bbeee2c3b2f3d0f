//! Keeps `fjall`'s log lines about opening a database out of the application's log. It writes them
//! at level *info* at each launch, and our own line says the same.
//!
//! Rocket's logger prints the lines of every crate and cannot filter by crate. The maximum level of
//! the `log` facade is the only switch, and it belongs to the process: meanwhile lines of other
//! crates at *info* and below are lost too. Warnings and errors are not.

use std::sync::Mutex;

use log::LevelFilter;

use crate::sync::lock;

/// How many [`Hush`] values live, and the level before the first of them.
static HUSHED: Mutex<(usize, LevelFilter)> = Mutex::new((0, LevelFilter::Off));

/// While a value of this type lives, the `log` facade passes only warnings and errors on.
pub(super) struct Hush(());

impl Hush {
    /// Begins to hush. Several may live at a time; the level comes back with the last one.
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
        // Any other level was set by somebody else meanwhile, and stays.
        if hushed.0 == 0 && log::max_level() == hushed.1.min(LevelFilter::Warn) {
            log::set_max_level(hushed.1);
        }
    }
}

/// Held by tests that open a database or look at the level, which is one of the process.
#[cfg(test)]
pub(super) static LEVEL: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_comes_back_with_the_last_one() {
        let _alone = lock(&LEVEL);
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
