//! Redis and Redis Insight for development: what the compose files say, and how
//! their scripts behave with a stand-in for Docker.
// A program: nobody else names its items.
#![allow(unreachable_pub, missing_debug_implementations)]

mod compose_files;
mod scripts;
mod shell;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rocket_jobqueue::internals::parse_yaml;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool's path; a missing one fails the test and says what to install.
fn tool(name: &str, package: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: apt-get install {package}"))
}
