//! Makes text from outside safe to show: invisible and control characters are written as
//! visible marks.
//!
//! Two attacks are meant. A line break in an id forges a line of the log, and an escape
//! sequence changes what a terminal shows. A mark of direction makes `gpj.exe` look like
//! `exe.jpg`, and a blank without width makes two names look the same. Log lines, error texts
//! and the dashboard use [`is_invisible`]; HTML is escaped elsewhere, by the type of the page.
//!
//! Only showing is changed. Stored ids, names and payloads keep their bytes, and are compared
//! by them.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Whether a character shows nothing itself, or changes how the text around it is shown:
/// control characters, marks of direction, format and line, blanks without width, and every
/// space except U+0020, because each looks like that one or like nothing.
/// Source: Unicode 16, general categories `Cc`, `Cf` and `Z`, `Default_Ignorable_Code_Point`, and
/// the few characters of other categories whose glyph is blank.
pub(crate) fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{a0}'
        | '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{115f}'..='\u{1160}'
        | '\u{1680}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3000}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{16fe4}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d159}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// A text on one line, in which every invisible character is written as an escape: it can
/// neither begin a line of its own nor speak to a terminal.
pub(crate) struct Line<'a>(pub fmt::Arguments<'a>);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(&mut Escaping(f), self.0)
    }
}

/// Writes through to a formatter and escapes on the way, without building the text first.
struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_invisible(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", c.escape_default())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// The text of a [`Line`]. Borrowed, without a copy, if there is nothing to escape, which is
/// nearly always.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_invisible) {
        true => Cow::Owned(Line(format_args!("{text}")).to_string()),
        false => Cow::Borrowed(text),
    }
}

/// The beginning of a text, at most this many bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let most = text.len().min(most);
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_hides_nothing() {
        assert_eq!(line("a\r\nb\u{1b}[31m\u{2028}\u{85}"), "a\\r\\nb\\u{1b}[31m\\u{2028}\\u{85}");
        assert_eq!(line("\u{202e}x\u{2066}\u{200b}"), "\\u{202e}x\\u{2066}\\u{200b}");
        assert_eq!(line("日本語 \"ok\" é \\n"), "日本語 \"ok\" é \\n");
        let (name, many) = ("a\n", ["\u{1b}", "b"]);
        let text = Line(format_args!("{name} {:?} {:>3}", many, "\t")).to_string();
        assert_eq!(text, "a\\n [\"\\u{1b}\", \"b\"]   \\t");
    }

    #[test]
    fn every_space_but_the_usual_one_is_marked() {
        for c in (char::MIN..=char::MAX).filter(|c| *c != ' ') {
            assert!(is_invisible(c) || !c.is_whitespace() && !c.is_control(), "{:x}", u32::from(c));
        }
        // Letters by their category, and blank.
        for blank in ['\u{1d159}', '\u{16fe4}', '\u{2800}', '\u{3164}'] {
            assert!(is_invisible(blank), "{:x}", u32::from(blank));
        }
        for seen in [' ', 'é', '、', '日', '·', '¡', '‐', '‧', '‰', '\u{2070}', '。', '🦀']
        {
            assert!(!is_invisible(seen), "{seen}");
        }
    }
}
