//! The table of `docs/interop.md`, made from the cases, so that the document says
//! what is checked and nothing else.

use std::fmt::Write;

use crate::cases::Case;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/interop.md");
const BEGIN: &str = "<!-- cases: made by scripts/interop.sh --table -->\n";
const END: &str = "<!-- end of cases -->";

/// The cases by area, with their number.
pub fn of(cases: &[Case]) -> String {
    let mut text = String::new();
    let mut areas: Vec<&str> = Vec::new();
    for case in cases {
        if !areas.contains(&case.area) {
            areas.push(case.area);
        }
    }
    let _ = writeln!(text, "{} cases in {} areas.\n", cases.len(), areas.len());
    let _ = writeln!(text, "| area | cases | what is checked |\n| --- | --- | --- |");
    for area in areas {
        let names: Vec<&str> =
            cases.iter().filter(|case| case.area == area).map(|case| case.name.as_str()).collect();
        let _ = writeln!(text, "| {area} | {} | {} |", names.len(), names.join("<br>"));
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
