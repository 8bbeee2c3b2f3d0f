//! A wall clock that a test moves while the processes that live by it run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wall clock of every process that is started with its
/// [variables](WallClock::variables): ours, and `redis-server`. Their monotonic clocks
/// stay as they are.
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// A clock that is right, in files of this folder. Needs a C compiler, which Rust
    /// needs to link.
    pub fn new(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        let clock = Self { library: file("wall_clock.so"), offset: file("wall_clock") };
        let source = file("wall_clock.c");
        std::fs::write(&source, include_str!("wall_clock.c")).expect("the folder is writable");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).args([&clock.library, &source]);
        let compiled = compile.status().expect("cc is installed");
        assert!(compiled.success(), "the clock does not compile");
        clock.set(0);
        clock
    }

    /// Sets it this many seconds ahead of the right time.
    pub fn set(&self, ahead: i64) {
        // Processes map the file: it is never truncated.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.offset);
        let written = file.and_then(|mut file| file.write_all(&ahead.to_ne_bytes()));
        written.expect("the folder is writable");
    }

    /// What a process needs in its environment to live by it.
    pub fn variables(&self) -> Vec<(String, String)> {
        [("LD_PRELOAD", &self.library), ("TEST_WALL_CLOCK", &self.offset)]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
            .to_vec()
    }
}
