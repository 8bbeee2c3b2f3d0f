//! What a command prints: tables for people, JSON for programs.
//!
//! On a terminal, a table fits its width: the columns that may be cut are cut, and nothing wraps.
//! Elsewhere nothing is cut, so that `grep` sees all of it. Colours are for a terminal without
//! `NO_COLOR`.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::failure::Outcome;
use crate::text::{cut, escaped, json, width};

/// Columns that a flexible one keeps; the second number on a narrow terminal.
const MIN_FLEXIBLE: [usize; 2] = [8, 4];

/// How a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub json: bool,
    pub color: bool,
    /// The columns of the terminal; `None` elsewhere.
    pub columns: Option<usize>,
}

/// The meaning of a cell, for its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    #[default]
    Plain,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Mark {
    /// Of a job's state.
    pub fn of_state(state: &str) -> Self {
        match state {
            "archived" => Mark::Bad,
            "retry" => Mark::Warn,
            "active" | "completed" => Mark::Good,
            _ => Mark::Plain,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Mark::Plain => "",
            Mark::Dim => "\u{1b}[2m",
            Mark::Good => "\u{1b}[32m",
            Mark::Warn => "\u{1b}[33m",
            Mark::Bad => "\u{1b}[31m",
        }
    }
}

/// One cell: foreign text is escaped here, and nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    mark: Mark,
}

impl Cell {
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { text: escaped(text.as_ref()).into_owned(), mark: Mark::Plain }
    }

    pub fn marked(text: impl AsRef<str>, mark: Mark) -> Self {
        Self { mark, ..Self::new(text) }
    }

    /// A number; 0 is dim.
    pub fn number(count: u64) -> Self {
        Self::marked(count.to_string(), if count == 0 { Mark::Dim } else { Mark::Plain })
    }

    /// A number that is bad unless it is 0.
    pub fn bad_number(count: u64) -> Self {
        Self::marked(count.to_string(), if count == 0 { Mark::Dim } else { Mark::Bad })
    }
}

/// A column's heading and form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    /// Cut if the table does not fit.
    flexible: bool,
}

pub(crate) const fn left(title: &'static str) -> Column {
    Column { title, right: false, flexible: false }
}

pub(crate) const fn right(title: &'static str) -> Column {
    Column { title, right: true, flexible: false }
}

/// A column that is cut if the table does not fit.
pub(crate) const fn flexible(title: &'static str) -> Column {
    Column { title, right: false, flexible: true }
}

impl Output {
    pub fn new(json: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let columns = is_terminal.then(columns).flatten();
        Self { json, color: is_terminal && !no_color && !is_dumb, columns }
    }

    /// Prints a line. What it holds of foreign text is escaped already.
    pub fn line(&self, text: impl AsRef<str>) -> Outcome {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Prints a value for programs.
    pub fn value(&self, value: &Value) -> Outcome {
        self.line(json(value))
    }

    /// A note beside the output, for people.
    pub fn note(&self, text: impl AsRef<str>) {
        eprintln!("{}", escaped(text.as_ref()));
    }

    pub fn paint(&self, text: &str, mark: Mark) -> String {
        match self.color && mark != Mark::Plain {
            true => format!("{}{text}\u{1b}[0m", mark.code()),
            false => text.to_owned(),
        }
    }

    /// Prints pairs of a name and a text.
    pub fn facts(&self, facts: &[(&str, Cell)]) -> Outcome {
        let longest = facts.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
        for (name, cell) in facts {
            let gap = " ".repeat(longest - width(name));
            let name = self.paint(name, Mark::Dim);
            self.line(format!("{name}{gap}  {}", self.paint(&cell.text, cell.mark)))?;
        }
        Ok(())
    }

    /// Prints a table, or its `nothing` if it has no rows.
    pub fn table(&self, columns: &[Column], rows: &[Vec<Cell>], nothing: &str) -> Outcome {
        if rows.is_empty() {
            self.note(nothing);
            return Ok(());
        }
        let widths = self.widths(columns, rows);
        let titles: Vec<Cell> =
            columns.iter().map(|column| Cell::marked(column.title, Mark::Dim)).collect();
        for row in std::iter::once(&titles).chain(rows) {
            self.line(self.row(columns, &widths, row))?;
        }
        Ok(())
    }

    fn widths(&self, columns: &[Column], rows: &[Vec<Cell>]) -> Vec<usize> {
        let widest = |at: usize| rows.iter().map(|row| width(&row[at].text)).max().unwrap_or(0);
        let mut widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| widest(at).max(width(column.title)))
            .collect();
        let Some(most) = self.columns else { return widths };
        for least in MIN_FLEXIBLE {
            loop {
                let taken: usize = widths.iter().sum::<usize>() + 2 * (columns.len() - 1);
                if taken <= most {
                    return widths;
                }
                let is_wide = |at: &usize| columns[*at].flexible && widths[*at] > least;
                let widest = (0..columns.len()).filter(is_wide).max_by_key(|at| widths[*at]);
                let Some(at) = widest else { break };
                widths[at] = widths[at].saturating_sub(taken - most).max(least);
            }
        }
        widths
    }

    fn row(&self, columns: &[Column], widths: &[usize], row: &[Cell]) -> String {
        let mut line = String::new();
        for ((column, columns_of_cell), cell) in columns.iter().zip(widths).zip(row) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let text = cut(&cell.text, *columns_of_cell);
            let gap = " ".repeat(columns_of_cell.saturating_sub(width(&text)));
            let text = self.paint(&text, cell.mark);
            match column.right {
                true => line.extend([gap.as_str(), text.as_str()]),
                false => line.extend([text.as_str(), gap.as_str()]),
            }
        }
        line.trim_end().to_owned()
    }
}

/// The columns of the terminal.
fn columns() -> Option<usize> {
    let (columns, _) = ratatui::crossterm::terminal::size().ok()?;
    (columns > 0).then_some(usize::from(columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_keeps_what_must_be_whole() {
        let output = Output { json: false, color: false, columns: Some(30) };
        let columns = [left("ID"), flexible("ERROR"), right("N")];
        let row = vec![Cell::new("0123456789"), Cell::new("e".repeat(50)), Cell::number(7)];
        let widths = output.widths(&columns, std::slice::from_ref(&row));
        let line = output.row(&columns, &widths, &row);
        assert_eq!(width(&line), 30, "{line}");
        assert!(line.starts_with("0123456789  eee") && line.ends_with("…  7"), "{line}");
        let wide = Output { columns: None, ..output };
        let widths = wide.widths(&columns, std::slice::from_ref(&row));
        assert!(wide.row(&columns, &widths, &row).contains(&"e".repeat(50)));
    }

    #[test]
    fn cells_are_escaped_and_coloured_only_by_us() {
        let output = Output { json: false, color: false, columns: None };
        assert_eq!(
            output.paint(&Cell::marked("\u{1b}[31m", Mark::Bad).text, Mark::Bad),
            "\\u{1b}[31m"
        );
    }
}
