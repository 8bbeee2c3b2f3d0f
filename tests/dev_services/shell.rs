//! What holds for every shell script of the repository.

use super::*;

/// Every shell script of the project.
fn scripts() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sh"))
        .collect();
    // Not part of the published package.
    found.extend(Some(root().join(".ci/run")).filter(|path| path.exists()));
    assert!(found.len() >= 4, "{found:?}");
    found
}

fn accepts(mut command: Command, path: &Path) {
    let output = command.arg(path).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn every_script_parses_is_clean_and_can_be_run() {
    for path in scripts() {
        let mut bash = Command::new(tool("bash", "bash"));
        bash.arg("-n");
        accepts(bash, &path);
        accepts(Command::new(tool("shellcheck", "shellcheck")), &path);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} is not executable", path.display());
    }
}

#[test]
fn every_script_says_how_it_is_used() {
    for path in scripts() {
        let text = fs::read_to_string(&path).unwrap();
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(header.iter().any(|line| line.contains("Usage:")), "{}", path.display());
    }
}
