//! Callgrind, told to count only inside of one function, and to write down what it counted each
//! time another function is entered or left.

use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// Valgrind shows programs the processor that it runs on. Without these extensions glibc takes the
/// same copies and searches on every x86-64, so that counts can be compared.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2_Usable,-AVX512F_Usable,-AVX2,-AVX512F,-AVX512VL,\
                        -AVX512BW,-ERMS,-FSRM,-BMI2,-RTM";

/// `valgrind` as a command that still lacks the program. It counts inside of the function `within`
/// but not of `except`, and writes `out.1`, `out.2` and so on below `folder` before each call of
/// `dump`. These are patterns, and all different: of two options for one pattern, the last does
/// nothing.
pub fn callgrind(folder: &Path, within: &str, except: Option<&str>, dump: &str) -> Command {
    let mut command = Command::new("valgrind");
    command
        .env("GLIBC_TUNABLES", TUNABLES)
        .args(["--tool=callgrind", "--quiet"])
        .args(except.into_iter().chain([within]).map(|name| format!("--toggle-collect={name}")))
        .arg(format!("--dump-before={dump}"))
        .arg(format!("--callgrind-out-file={}", folder.join("out").display()));
    command
}

/// The instructions of each dump that was written, in their order.
pub fn dumps(folder: &Path) -> Outcome<Vec<u64>> {
    let mut found = Vec::new();
    loop {
        let path = folder.join(format!("out.{}", found.len() + 1));
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(found) };
        let sum = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        found.push(sum.ok_or_else(|| format!("{}: expected a line of totals", path.display()))?);
    }
}

/// What valgrind says of its version.
pub fn version() -> Outcome<String> {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output.map_err(|error| format!("valgrind does not start: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
