//! The peer of another commit: its library's sources come from `git archive`, the
//! peer's own sources from this working tree, and both are built into
//! `target/chaos/<commit>`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::process::Launch;

/// Names the commit, if it is not the newest tag.
const VARIABLE: &str = "CHAOS_COMMIT";
/// The commit if there is neither.
const OLDEST: &str = "1e04efc";

/// A peer of another version, ready to be started.
pub struct Other {
    pub commit: String,
    pub launch: Launch,
}

/// Builds the one that `two-versions` runs beside this tree.
pub fn other() -> Result<Other, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = std::env::var(VARIABLE)
        .or_else(|_| git(root, &["describe", "--tags", "--abbrev=0"]))
        .unwrap_or_else(|_| OLDEST.to_owned());
    build(&wanted)
}

/// The commits whose peer this process has built.
static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Builds the peer of a commit; minutes for the first time. Once a process: a scenario
/// beside this one may run the program.
pub fn build(wanted: &str) -> Result<Other, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = git(root, &["rev-parse", "--short", &format!("{wanted}^{{commit}}")])?;
    let chaos = root.join("target/chaos");
    let home = chaos.join(&commit);
    let program = home.join("chaos-peer");
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(&commit) {
        compile(root, &chaos, &commit, &home, &program)?;
        built.push(commit.clone());
    }
    let program = vec![program.display().to_string()];
    Ok(Other { commit, launch: Launch { program, variables: Vec::new() } })
}

fn compile(
    root: &Path,
    chaos: &Path,
    commit: &str,
    home: &Path,
    program: &Path,
) -> Result<(), String> {
    let source = home.join("source");
    if !source.join("Cargo.toml").exists() {
        std::fs::create_dir_all(&source).map_err(|error| error.to_string())?;
        let unpack = format!("git archive {commit} | tar -x -C '{}'", source.display());
        run(Command::new("sh").args(["-c", &unpack]).current_dir(root))?;
    }
    let peer = copy_peer(root, home, &source).map_err(|error| error.to_string())?;
    run(crate::support::cargo()
        .args(["build", "--quiet"])
        .current_dir(&peer)
        .env("CARGO_TARGET_DIR", chaos.join("build")))?;
    // Peers of several commits are built in one folder, which has the last one.
    std::fs::copy(chaos.join("build/debug/chaos-peer"), program)
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// This tree's peer, with that commit's library and its locked dependencies.
fn copy_peer(root: &Path, home: &Path, source: &Path) -> std::io::Result<PathBuf> {
    let (from, peer) = (root.join("tests/chaos/peer"), home.join("peer"));
    std::fs::create_dir_all(peer.join("src/peer"))?;
    let manifest = std::fs::read_to_string(from.join("Cargo.toml"))?;
    write(&peer.join("Cargo.toml"), &manifest.replace("../../..", "../source"))?;
    write(&peer.join("src/main.rs"), &std::fs::read_to_string(from.join("src/main.rs"))?)?;
    for entry in std::fs::read_dir(from.join("src/peer"))? {
        let file = entry?.file_name();
        let text = std::fs::read_to_string(from.join("src/peer").join(&file))?;
        write(&peer.join("src/peer").join(&file), &text)?;
    }
    if !peer.join("Cargo.lock").exists() {
        std::fs::copy(source.join("Cargo.lock"), peer.join("Cargo.lock"))?;
    }
    Ok(peer)
}

/// Leaves a file alone that says so already: cargo goes by its time.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    std::fs::write(path, text)
}

fn git(root: &Path, arguments: &[&str]) -> Result<String, String> {
    run(Command::new("git").args(arguments).current_dir(root))
}

/// What it prints, or what it says of its failure.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
