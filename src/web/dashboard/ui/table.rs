//! Tables. A wide screen shows columns; a narrow one shows each row as a card, in which every
//! cell has its column's name (`data-label`, read by the style sheet).
//!
//! The first cell of each row is its header (`th scope="row"`), so that screen readers say it with
//! every other cell. A cell across the whole row says what is wrong with an entry.

use maud::{Markup, html};

/// One cell after the first of a row.
pub(crate) enum Cell {
    /// A value.
    Value(Markup),
    /// An error or another long text, which may break anywhere.
    Error(Markup),
    /// A text of one line that is cut where the room ends.
    Clipped(Markup),
    /// What is wrong with a row, across all other columns; with the name of the last column.
    Broken(Markup),
    /// The same without a column's name.
    Unreadable(Markup),
    /// A button, without a column's name.
    Button(Markup),
}

/// The first cell of a row, which names it, and the others.
pub(crate) struct Row {
    /// What the row is about.
    pub head: Markup,
    /// Whether the head is an error or another long text.
    pub long: bool,
    /// One cell for each other column, or one across all of them.
    pub cells: Vec<Cell>,
}

impl Row {
    /// A row of values.
    pub(crate) fn new(head: Markup, cells: Vec<Cell>) -> Self {
        Self { head, long: false, cells }
    }

    /// A row that an error or another long text names.
    pub(crate) fn long(head: Markup, cells: Vec<Cell>) -> Self {
        Self { head, long: true, cells }
    }
}

/// How a table is laid out.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum TableKind {
    /// Numbers and names.
    Plain,
    /// With a column for long texts.
    Jobs,
}

/// A column: the key by which a script hides it, empty for one that always stays, and its head.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    /// The key.
    pub key: &'a str,
    /// The head.
    pub label: &'a str,
}

/// A table in a card that scrolls sideways. `name` is read by screen readers; `columns` has
/// the heads of all columns, the first included.
pub(crate) fn table(kind: TableKind, name: &str, columns: &[&str], rows: &[Row]) -> Markup {
    let columns: Vec<Column<'_>> = columns.iter().map(|label| Column { key: "", label }).collect();
    keyed(kind, name, &columns, rows)
}

/// The same with columns that can be hidden.
pub(crate) fn keyed(kind: TableKind, name: &str, columns: &[Column<'_>], rows: &[Row]) -> Markup {
    let class = (kind == TableKind::Jobs).then_some("jobs");
    html! {
        div.card.wide tabindex="0" role="region" aria-label=(name) {
            table class=[class] {
                thead { tr {
                    @for column in columns {
                        // A column without a name has no head, which would be read aloud.
                        @if column.label.is_empty() { td {} } @else {
                            th scope="col" data-col=[key(column)] { (column.label) }
                        }
                    }
                } }
                tbody { @for row in rows { (line(columns, row)) } }
            }
        }
    }
}

/// The key of a column that has one.
fn key<'a>(column: &Column<'a>) -> Option<&'a str> {
    Some(column.key).filter(|key| !key.is_empty())
}

/// One row; cells beyond the last column are dropped. A row that one cell fills has a single
/// one.
fn line(columns: &[Column<'_>], row: &Row) -> Markup {
    let others = columns.len().saturating_sub(1);
    html! {
        tr {
            th class=[row.long.then_some("error")] scope="row" { (row.head) }
            @for (column, cell) in columns.iter().skip(1).zip(&row.cells) {
                @let (key, label) = (key(column), column.label);
                @match cell {
                    Cell::Value(value) => { td data-col=[key] data-label=(label) { (value) } }
                    Cell::Error(error) => { td.error data-col=[key] data-label=(label) { (error) } }
                    Cell::Clipped(text) => { td.clipped data-col=[key] data-label=(label) { (text) } }
                    Cell::Broken(error) => {
                        td.error colspan=(others) data-label=[columns.last().map(|last| last.label)] { (error) }
                    }
                    Cell::Unreadable(error) => { td.error colspan=(others) { (error) } }
                    Cell::Button(button) => { td { (button) } }
                }
            }
        }
    }
}
