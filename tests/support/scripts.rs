//! The texts of the store's scripts, for tests that run them without the store.

use std::collections::BTreeMap;
use std::path::Path;

/// The text of each script by its name, as the table in the source puts it together.
pub fn all() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/broker/redis");
    let table = std::fs::read_to_string(folder.join("scripts.rs")).unwrap();
    let file = |name: &str| {
        std::fs::read_to_string(folder.join(format!("lua/{name}.lua"))).expect("the script's file")
    };
    let begin = table.find("static SCRIPTS").expect("the table");
    let mut scripts = BTreeMap::new();
    for line in table[begin..].split(';').next().unwrap().split("\n    ").skip(1) {
        let Some((name, made)) = line.split_once(": ") else { continue };
        let mut text = if made.starts_with("script!") { file("common") } else { String::new() };
        let mut quoted: Vec<&str> = made.split('"').skip(1).step_by(2).collect();
        quoted.retain(|part| !part.contains('/') && !part.is_empty());
        for part in &quoted {
            text += &file(part);
        }
        scripts.insert(name.trim().to_owned(), text);
    }
    scripts
}
