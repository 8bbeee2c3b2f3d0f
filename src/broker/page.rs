//! Pages of lists: by number near the beginning, by cursor everywhere, so that no page costs more
//! than another.
//!
//! A number is convenient for people and means skipping rows, so it reaches up to row 10,000. A
//! [`Cursor`] says after which row a page begins; it is opaque text in URLs, and continues at the
//! right place even if rows before it are gone. [`Mark`] has one form for each kind of list, and a
//! cursor of another kind is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::job::serial::{hex, unhex};
use crate::job::{JobState, QueueName};

/// Maximum rows of one page.
const MAX_ROWS: u32 = 100;

/// A page ends when its messages and results reach this many bytes together: the process
/// that shows it holds several copies in memory.
pub const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// The last row at which a numbered page can begin.
const MAX_FIRST_ROW: u32 = 10_000;

/// A page of a list: by its number, or the one after another page.
///
/// The default is the first page with 30 rows. Numbers reach up to row 10,000;
/// [`JobPage::next`](crate::inspect::JobPage::next) continues from any page to the end.
///
/// ```
/// use rocket_jobqueue::inspect::Page;
///
/// let second = Page::number(2)?.size(50)?;
/// assert!(Page::number(0).unwrap_err().is_invalid());
/// assert!(second.size(101).unwrap_err().is_invalid());
/// # Ok::<_, rocket_jobqueue::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    size: u32,
    from: From,
    backward: bool,
}

/// Where a page begins, as the caller asked for it. Numbers begin at 1.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Number(u32),
    Cursor(Cursor),
}

impl Default for Page {
    fn default() -> Self {
        Self { size: 30, from: From::Number(1), backward: false }
    }
}

impl Page {
    /// The page with this number, counted from 1.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for 0.
    pub fn number(number: u32) -> Result<Self, Error> {
        if number == 0 {
            return Err(Error::invalid("page: expected a number from 1, found 0"));
        }
        Ok(Self { from: From::Number(number), ..Self::default() })
    }

    /// The page after the one that returned this cursor.
    pub fn after(cursor: Cursor) -> Self {
        Self { from: From::Cursor(cursor), ..Self::default() }
    }

    /// With this many rows instead of 30.
    ///
    /// # Errors
    /// [`Error::is_invalid`] outside 1 to 100.
    pub fn size(mut self, size: u32) -> Result<Self, Error> {
        if !(1..=MAX_ROWS).contains(&size) {
            return Err(Error::invalid(format!(
                "page size: expected 1 to {MAX_ROWS} rows, found {size}"
            )));
        }
        self.size = size;
        Ok(self)
    }

    /// With this many rows; for lists whose rows are short enough for more than 100.
    pub(crate) fn with_rows(mut self, rows: u32) -> Self {
        self.size = rows;
        self
    }

    /// From the other end of the list: the job that was archived last comes first, or the one that
    /// became pending last. The default is the list's own order, see
    /// [`Inspector::jobs`](crate::Inspector::jobs). A page after another one has to go the same
    /// way; the cost is the same.
    ///
    /// ```
    /// # use rocket_jobqueue::inspect::Page;
    /// # use rocket_jobqueue::{Error, Inspector, JobState, QueueName};
    /// async fn last_archived(inspector: &Inspector) -> Result<Option<String>, Error> {
    ///     let (queue, page) = (QueueName::new("mail")?, Page::default().backward().size(1)?);
    ///     let found = inspector.jobs(&queue, JobState::Archived, &page).await?;
    ///     Ok(found.rows.first().map(|row| row.id().to_string()))
    /// }
    /// ```
    pub fn backward(mut self) -> Self {
        self.backward = true;
        self
    }

    /// Whether it is read from the other end.
    pub(crate) fn is_backward(&self) -> bool {
        self.backward
    }

    /// The requested number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.size as usize
    }

    /// Where the page begins. A cursor is anywhere in the list, a number only near its beginning.
    pub(crate) fn begin(&self) -> Result<Begin<'_>, Error> {
        let number = match &self.from {
            From::Cursor(cursor) => return Ok(Begin::After(&cursor.0)),
            From::Number(number) => *number,
        };
        let offset = (number - 1).saturating_mul(self.size);
        if offset > MAX_FIRST_ROW {
            return Err(Error::invalid(format!(
                "page: expected one that begins within the first {MAX_FIRST_ROW} rows, found row \
                 {offset}; go on with the cursor of the page before"
            )));
        }
        Ok(Begin::At(u64::from(offset)))
    }
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Begin<'a> {
    /// After this many rows.
    At(u64),
    /// After the rows of this mark.
    After(&'a Mark),
}

/// Opaque position for the next page. It can be sent in a URL, and stays valid while the list
/// changes.
///
/// ```
/// use rocket_jobqueue::inspect::Cursor;
///
/// assert!("anything".parse::<Cursor>().unwrap_err().is_invalid());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Mark);

/// What a cursor remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The last row of a page in the order of scores.
    Scored {
        /// The score as the store wrote it.
        score: String,
        /// The id.
        id: Vec<u8>,
    },
    /// The last and the first row of a page in a list that changes while it is read.
    Listed {
        /// The index of the last row, from 0.
        place: u64,
        /// Its id.
        last: Vec<u8>,
        /// The id of the first one.
        first: Vec<u8>,
    },
    /// How far a set was scanned: a cursor of Redis.
    Scanned(Vec<u8>),
    /// The list that a search of many lists continues with.
    Found {
        /// The state of its jobs.
        state: JobState,
        /// The stored name of its queue.
        queue: Vec<u8>,
        /// The last row of it that was found.
        within: Option<Box<Mark>>,
    },
}

impl Mark {
    /// The mark of a search that continues in this list.
    pub(crate) fn found(state: JobState, queue: &QueueName, within: Option<Cursor>) -> Self {
        let within = within.map(|cursor| Box::new(cursor.0));
        Self::Found { state, queue: queue.as_str().as_bytes().to_vec(), within }
    }
}

impl Cursor {
    /// A cursor to hand out: the next page begins after this mark.
    pub(crate) fn new(mark: Mark) -> Self {
        Self(mark)
    }

    /// The error for a page number of an unordered list.
    pub(super) fn by_cursor() -> Error {
        Error::invalid("page: expected the first one or one by its cursor, found a number")
    }

    /// The error for a cursor of another kind of list.
    pub(crate) fn foreign() -> Error {
        Error::invalid("cursor: expected one of the same list, found another")
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Mark::Scored { score, id } => write!(f, "z~{}~{}", hex(score.as_bytes()), hex(id)),
            Mark::Listed { place, last, first } => {
                write!(f, "l~{place}~{}~{}", hex(last), hex(first))
            }
            Mark::Scanned(words) => write!(f, "s~{}", hex(words)),
            Mark::Found { state, queue, within } => {
                write!(f, "f~{state}~{}", hex(queue))?;
                within.iter().try_for_each(|mark| write!(f, "~{}", Cursor(mark.as_ref().clone())))
            }
        }
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('~').collect();
        mark(&parts).map(Cursor).ok_or_else(|| {
            Error::invalid("cursor: expected the text that came with a page, found another")
        })
    }
}

#[cfg(feature = "openapi")]
crate::job::serial::text_schema!(
    Cursor,
    "JobQueueCursor",
    None,
    "Where the next page begins; to be given back as it is."
);

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads a mark.
fn mark(parts: &[&str]) -> Option<Mark> {
    match *parts {
        ["f", state, queue, ref within @ ..] => {
            let (state, queue) = (JobState::parse(state)?, unhex(queue)?);
            let within = match within {
                [] => None,
                within => Some(Box::new(in_list(within)?)),
            };
            Some(Mark::Found { state, queue, within })
        }
        _ => in_list(parts),
    }
}

/// Reads the mark of a single list.
fn in_list(parts: &[&str]) -> Option<Mark> {
    match *parts {
        ["z", score, id] => scored(score, id),
        ["l", place, last, first] => listed(place, last, first),
        ["s", words] => unhex(words).map(Mark::Scanned),
        _ => None,
    }
}

/// Reads the mark of a sorted set. Id and score are hexadecimal, because an id is bytes; a
/// score that is not a number would reach Redis as a wrong argument.
fn scored(score: &str, id: &str) -> Option<Mark> {
    let score = String::from_utf8(unhex(score)?).ok()?;
    let number: f64 = score.parse().ok()?;
    (!number.is_nan()).then_some(Mark::Scored { score, id: unhex(id)? })
}

/// Reads the mark of a list: its position, and the ids of the last and the first row.
fn listed(place: &str, last: &str, first: &str) -> Option<Mark> {
    // Beyond this the store's numbers are not exact any more.
    let place = place.parse().ok().filter(|place| *place < 1 << 48)?;
    Some(Mark::Listed { place, last: unhex(last)?, first: unhex(first)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_way_through_text() {
        for mark in [
            Mark::Scored { score: "1.5e+18".into(), id: b"a~\xff".to_vec() },
            Mark::Listed { place: 77, last: b"l".to_vec(), first: Vec::new() },
            Mark::Scanned(b"1024".to_vec()),
            Mark::Found { state: JobState::Retry, queue: b"mail".to_vec(), within: None },
            Mark::Found {
                state: JobState::Archived,
                queue: b"a:b".to_vec(),
                within: Some(Box::new(Mark::Scored { score: "7".into(), id: b"x".to_vec() })),
            },
        ] {
            let cursor = Cursor::new(mark);
            let text = cursor.to_string();
            assert_eq!(text.parse::<Cursor>().unwrap(), cursor);
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '~'), "{text}");
        }
    }

    #[test]
    fn a_forged_cursor_is_refused() {
        let nan = hex(b"nan");
        for text in [
            "",
            "z",
            "z~",
            "z~31",
            "l~-1~~",
            "l~9e99~~",
            "l~999999999999999999~~",
            "s~0g",
            "s~0",
            "f~nothing~61",
            "f~retry~6",
            "f~retry~61~x",
        ]
        .into_iter()
        .chain([format!("z~{nan}~61").as_str(), "f~retry~61~f~retry~61"])
        {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
        assert!(format!("s~{}", "00".repeat(200 * 1024)).parse::<Cursor>().is_err());
    }

    #[test]
    fn a_page_begins_where_its_number_says_and_not_too_far() {
        let page = |number, size| Page::number(number).unwrap().size(size).unwrap();
        assert_eq!(Page::default().begin().unwrap(), Begin::At(0));
        assert_eq!(page(3, 20).begin().unwrap(), Begin::At(40));
        assert_eq!(page(101, 100).begin().unwrap(), Begin::At(10_000));
        for (number, size) in [(102, 100), (10_002, 1), (u32::MAX, 100)] {
            let error = page(number, size).begin().unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains("cursor"), "{error}");
        }
    }
}
