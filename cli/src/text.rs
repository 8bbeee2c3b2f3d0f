//! Text for a terminal: foreign text made safe, columns, instants and durations.
//!
//! Everything that a job, a queue or a server says passes [`escaped`] before it is printed: an escape
//! sequence in an error must not speak to the terminal, and a mark of direction must not turn a name
//! around. `--json` needs none of this, since JSON escapes control characters itself; marks of
//! direction are escaped there too ([`json`]).

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a character shows nothing itself, or changes how the text around it is shown. The list is
/// the library's (`src/text.rs`); a test compares the two.
fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}'
        | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{1680}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{16fe4}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// A text on one line in which every invisible character is an escape.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_invisible(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// A value as JSON on several lines, safe to print: what JSON leaves as it is and a terminal obeys,
/// such as marks of direction, is escaped as JSON permits.
pub(crate) fn json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push(c),
            c if is_invisible(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// A text of at most this many columns; one that is cut ends in `…`.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let (mut kept, mut taken) = (String::new(), 0);
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if taken + next + 1 > columns {
            break;
        }
        kept.push(c);
        taken += next;
    }
    if columns > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// An instant as the stores write it.
pub(crate) fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

/// An instant in the zone of the terminal: the time of today, otherwise with its date.
pub(crate) fn local(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let (at, now) = (at.with_timezone(&Local), now.with_timezone(&Local));
    let format = if at.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.format(format).to_string()
}

/// How far away an instant is: `3 m ago`, `in 2 h`.
pub(crate) fn away(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (at - now).num_seconds();
    let length = span(Duration::from_secs(seconds.unsigned_abs()));
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {length}"),
        _ => format!("{length} ago"),
    }
}

/// A duration in its largest unit, or two.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} m", seconds / 60),
        3600..86_400 if !(seconds / 60).is_multiple_of(60) && seconds < 36_000 => {
            format!("{} h {} m", seconds / 3600, seconds / 60 % 60)
        }
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes in a readable unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// Reads a duration such as `90`, `90s`, `5m`, `2h30m`, `1d`. A bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a duration such as 90s, 5m, 2h30m or 1d, found {text:?}");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut total, mut digits) = (0u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let factor = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        total =
            count.checked_mul(factor).and_then(|more| total.checked_add(more)).ok_or_else(wrong)?;
        digits.clear();
    }
    match digits.is_empty() && !text.is_empty() {
        true => Ok(Duration::from_secs(total)),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_speak_to_the_terminal() {
        assert_eq!(escaped("a\u{1b}[31m\r\nb\u{202e}"), "a\\u{1b}[31m\\r\\nb\\u{202e}");
        assert_eq!(escaped("日本語 é"), "日本語 é");
        let text = json(&serde_json::json!({ "a": "x\u{202e}\u{1b}\u{e0001}\n" }));
        assert!(text.chars().all(|c| c == '\n' || !is_invisible(c)), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["a"], "x\u{202e}\u{1b}\u{e0001}\n");
    }

    #[test]
    fn what_is_invisible_is_as_in_the_library() {
        let list = |text: &str| -> Vec<String> {
            let from = text.find("matches!(c,").unwrap();
            let list = text[from..].split_once(')').unwrap().0;
            let words = list["matches!(c,".len()..].split('|');
            words.map(|word| word.split_whitespace().collect()).collect()
        };
        assert_eq!(list(include_str!("text.rs")), list(include_str!("../../src/text.rs")));
    }

    #[test]
    fn columns_are_those_of_a_terminal() {
        assert_eq!(cut("日本語です", 5), "日本…");
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn durations_are_read_or_refused() {
        assert_eq!(duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("2h30m").unwrap(), Duration::from_secs(9000));
        assert_eq!(duration("1d").unwrap(), Duration::from_secs(86_400));
        for wrong in ["", "5 m", "m", "3x", "-1", "5m3", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
