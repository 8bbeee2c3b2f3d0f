//! The texts of the store's scripts, for tests that run them without the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The text of each script by its name, as the table in `scripts.rs` puts it together.
#[allow(dead_code)]
pub fn all() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker/redis");
    let table = std::fs::read_to_string(folder.join("scripts.rs")).unwrap();
    let file = |part: &str| {
        std::fs::read_to_string(folder.join(format!("lua/{part}.lua"))).expect("the script's file")
    };
    let (_, table) = table.split_once("\nscripts! {\n").expect("the table");
    let (table, _) = table.split_once("\n}\n").expect("the end of the table");
    let entries = table.split(';').filter_map(|entry| entry.trim().split_once(": "));
    entries
        .map(|(name, parts)| {
            let parts = parts.split('"').skip(1).step_by(2);
            (name.to_owned(), parts.map(file).collect::<String>())
        })
        .collect()
}

/// All files of Lua below this folder.
#[allow(dead_code)]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}
