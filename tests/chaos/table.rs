//! The table that the campaign prints.

use std::time::Duration;

use crate::report::Report;
use crate::scenarios::Scenario;

/// One line's worth.
pub struct Row {
    pub name: &'static str,
    pub injects: &'static str,
    pub took: Duration,
    pub report: Report,
}

impl Row {
    pub fn of(scenario: &Scenario, took: Duration, report: Report) -> Self {
        Self { name: scenario.name, injects: scenario.injects, took, report }
    }

    fn cells(&self) -> [String; 10] {
        let figures = &self.report.figures;
        [
            self.name.to_owned(),
            if self.report.passed() { "ok".into() } else { "FAILED".into() },
            figures.acknowledged.to_string(),
            (figures.refused + figures.unknown).to_string(),
            figures.lost.len().to_string(),
            figures.duplicates.len().to_string(),
            figures.overlaps.len().to_string(),
            format!("{:.1}", self.report.gap),
            format!("{:.0}", self.took.as_secs_f64()),
            self.injects.to_owned(),
        ]
    }
}

const HEADING: [&str; 10] =
    ["scenario", "", "acked", "not", "lost", "twice", "beside", "gap s", "took s", "injects"];

/// All rows, columns as wide as needed, numbers to the right; below each row its
/// further figures and what did not hold.
pub fn of(rows: &[Row]) -> String {
    let cells: Vec<[String; 10]> = rows.iter().map(Row::cells).collect();
    let mut widths = HEADING.map(|title| title.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&HEADING.map(str::to_owned), &widths);
    text += &format!("{}\n", "-".repeat(text.trim_end().chars().count() + 24));
    for (row, cells) in rows.iter().zip(&cells) {
        text += &line(cells, &widths);
        if !row.report.more.is_empty() {
            text += &format!("    {}\n", row.report.more.join(" · "));
        }
        for failure in &row.report.failures {
            text += &format!("    ! {failure}\n");
        }
    }
    text
}

fn line(cells: &[String; 10], widths: &[usize; 10]) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Numbers stand to the right.
        if (2..9).contains(&at) {
            line += &format!("{cell:>width$}  ");
        } else {
            line += &format!("{cell:<width$}  ");
        }
    }
    format!("{}\n", line.trim_end())
}
