//! Visible marks for invisible characters, in every page. Text from outside may reverse the
//! text around it or imitate another text; the marks show it. The finished page is marked, so
//! that no page can forget to.
//!
//! Marked are the characters of `crate::text::is_invisible`: control characters, zero-width
//! characters and those that change the direction of text.

use std::borrow::Cow;
use std::fmt::Write;

use crate::text::is_invisible;

/// Elements that hold text only: a mark in them is text too.
const PLAIN: [&str; 3] = ["title", "option", "textarea"];

/// The page with a mark in place of each invisible character of its text. Attributes and the
/// text of a `textarea` stay as they are, because forms send them back.
pub(super) fn shown(page: &str) -> Cow<'_, str> {
    if !page.chars().any(is_invisible) {
        return Cow::Borrowed(page);
    }
    let mut marked = String::with_capacity(page.len() + 256);
    let mut rest = page;
    // The innermost open element of those that matter here.
    let mut within = "";
    while let Some(at) = rest.find('<') {
        mark(&rest[..at], within, &mut marked);
        let end = rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
        let tag = &rest[at..end];
        let name =
            |tag: &str| tag.split(|c: char| !c.is_ascii_alphanumeric()).next() == Some(within);
        match tag.strip_prefix("</") {
            Some(closed) if name(closed) => within = "",
            Some(_) => {}
            None if within.is_empty() => {
                let opened = &tag[1..];
                let is = |name: &&&str| {
                    opened.strip_prefix(**name).is_some_and(|rest| rest.starts_with([' ', '>']))
                };
                within = PLAIN.iter().chain(&["pre"]).find(is).copied().unwrap_or_default();
            }
            None => {}
        }
        marked.push_str(tag);
        rest = &rest[end..];
    }
    mark(rest, within, &mut marked);
    Cow::Owned(marked)
}

/// Appends text, with marks as the element around it allows.
fn mark(text: &str, within: &str, marked: &mut String) {
    for c in text.chars() {
        // `pre` keeps line breaks and tabs, so there they are visible.
        let is_seen = !is_invisible(c) || within == "pre" && matches!(c, '\n' | '\t');
        if is_seen || within == "textarea" {
            marked.push(c);
        } else if PLAIN.contains(&within) {
            let _ = write!(marked, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            let _ = write!(marked, "<span class=\"mark\">U+{:04X}</span>", u32::from(c));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_of_text_are_marked() {
        for (page, expected) in [
            ("<p>a</p>", "<p>a</p>"),
            ("<p>a\u{202e}b</p>", "<p>a<span class=\"mark\">U+202E</span>b</p>"),
            ("<i title=\"\u{202e}\">x</i>", "<i title=\"\u{202e}\">x</i>"),
            ("<title>\u{2066}</title>", "<title>⟨U+2066⟩</title>"),
            ("<td>a\nb</td>", "<td>a<span class=\"mark\">U+000A</span>b</td>"),
            (
                "<pre class=\"bad\">a\n\u{1b}</pre>",
                "<pre class=\"bad\">a\n<span class=\"mark\">U+001B</span></pre>",
            ),
            ("<pre>\n</pre>\n", "<pre>\n</pre><span class=\"mark\">U+000A</span>"),
            (
                "<textarea rows=\"1\">\u{200b}\n</textarea>",
                "<textarea rows=\"1\">\u{200b}\n</textarea>",
            ),
            ("<prefix>\n", "<prefix><span class=\"mark\">U+000A</span>"),
            ("\u{feff}", "<span class=\"mark\">U+FEFF</span>"),
        ] {
            assert_eq!(shown(page), expected);
        }
    }
}
