//! The lists of `docs/interop.md`, made from the cases, so that the document says
//! what is checked and nothing else.

use std::fmt::Write;

use crate::cases::Case;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/interop.md");
const BEGIN: &str = "<!-- cases: made by scripts/interop.sh --table -->\n";
const END: &str = "<!-- end of cases -->";

/// The cases by area, after a table of their numbers.
pub fn of(cases: &[Case]) -> String {
    let mut text = String::new();
    let mut areas: Vec<&str> = Vec::new();
    for case in cases {
        if !areas.contains(&case.area) {
            areas.push(case.area);
        }
    }
    let _ = writeln!(text, "{} cases in {} areas.\n", cases.len(), areas.len());
    let _ = writeln!(text, "| area | cases |\n| --- | --- |");
    for area in &areas {
        let number = cases.iter().filter(|case| case.area == *area).count();
        let _ = writeln!(text, "| {area} | {number} |");
    }
    for area in areas {
        let _ = writeln!(text, "\n### {area}\n");
        for case in cases.iter().filter(|case| case.area == area) {
            let _ = writeln!(text, "* {}", case.name);
        }
    }
    text
}

/// Compares the document with the cases.
pub fn check(cases: &[Case]) -> Result<(), String> {
    let document =
        std::fs::read_to_string(DOCUMENT).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let table = document.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let written = table.map_or("", |(table, _)| table);
    if written == of(cases) {
        return Ok(());
    }
    Err("docs/interop.md does not list the cases there are: \
         put what scripts/interop.sh --table prints between its two marks"
        .to_owned())
}
