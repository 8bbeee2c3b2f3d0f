//! Payloads, results, errors and headers of any size on a page. Short ones are shown as they
//! are stored, of long ones the beginning; all of them can be downloaded.
//!
//! JSON is indented for reading, or a tree whose branches open and close if values are nested in it.
//! No digit or string of it is touched: a number that a 64-bit float cannot hold must look as it
//! was sent.
//!
//! | size | shown |
//! | --- | --- |
//! | up to 4 KiB | whole |
//! | up to 64 KiB | whole, with its size and a download link |
//! | more | the first 4 KiB, with the same |

use maud::{Markup, html};
use rocket::http::{ContentType, Header, Status};
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use serde::de::IgnoredAny;

use super::{Texts, json_tree};
use crate::broker::JobInfo;

/// The longest text that a page shows whole, in bytes: browsers draw this much at once.
pub(crate) const MAX_WHOLE_BYTES: usize = 64 * 1024;

/// How much a page shows of anything longer, in bytes.
const HEAD_BYTES: usize = 4 * 1024;

/// Nesting below which JSON is not indented further, and the size in bytes above which indented
/// JSON is shown as it is stored: both keep a hostile payload from growing the page.
const MAX_INDENT_DEPTH: usize = 32;
const MAX_INDENTED_BYTES: usize = 4 * MAX_WHOLE_BYTES;

/// A part of a job that can be downloaded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// What the handler gets.
    Payload,
    /// What the handler returned.
    Result,
    /// The last error.
    Error,
    /// The headers, as a JSON object.
    Headers,
}

impl Part {
    /// In no particular order.
    const ALL: [Part; 4] = [Part::Payload, Part::Result, Part::Error, Part::Headers];

    /// The name in addresses, and of the downloaded file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Payload => "payload",
            Part::Result => "result",
            Part::Error => "error",
            Part::Headers => "headers",
        }
    }

    /// The part with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Its bytes, as they are stored.
    pub(crate) fn of(self, info: &JobInfo) -> Vec<u8> {
        match self {
            Part::Payload => info.record.payload_bytes().to_vec(),
            Part::Result => info.result.clone().unwrap_or_default(),
            Part::Error => info.record.last_error.clone().into_bytes(),
            Part::Headers => serde_json::to_vec(&info.record.headers).unwrap_or_default(),
        }
    }
}

/// The bytes or their beginning, with a download link below `here`, the job's page.
pub(crate) fn shown(texts: &Texts, here: &str, part: Part, bytes: &[u8]) -> Markup {
    let bad = (part == Part::Error).then_some("bad");
    let size = bytes.len();
    let link = html! {
        a href={ (here) "/" (part.name()) } download { (texts.download) }
    };
    if size <= MAX_WHOLE_BYTES {
        let tree = (part != Part::Error).then(|| std::str::from_utf8(bytes).ok()).flatten();
        let tree = tree.and_then(json_tree::tree);
        let text = if part == Part::Error { text(bytes) } else { pretty(bytes) };
        return html! {
            @if let Some(tree) = tree {
                div.card.wide tabindex="0" role="group" aria-label=(part.name()) { (tree) }
                details.more data-key={ "text-" (part.name()) } {
                    summary { (texts.as_text) }
                    pre { (text) }
                }
            } @else {
                pre class=[bad] { (text) }
            }
            @if size > HEAD_BYTES { p.hint { ((texts.bytes)(size)) " " (link) } }
        };
    }
    html! {
        pre class=[bad] { (head(bytes)) "…" }
        p.hint {
            ((texts.beginning_of)(size))
            (link)
        }
    }
}

/// The beginning, cut between two characters: half a character would look like damaged text.
fn head(bytes: &[u8]) -> String {
    let some = &bytes[..bytes.len().min(HEAD_BYTES)];
    match std::str::from_utf8(some) {
        Ok(text) => text.to_owned(),
        // Only the last character is cut.
        Err(error) if error.error_len().is_none() => text(&some[..error.valid_up_to()]),
        Err(_) => text(some),
    }
}

/// Text as it is, other bytes in hexadecimal digits.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x} ")).collect(),
    }
}

/// JSON with its structure and every digit as it is stored, anything else as [`text`].
fn pretty(bytes: &[u8]) -> String {
    let text = text(bytes);
    if serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
        return text;
    }
    indented(&text).filter(|indented| indented.len() <= MAX_INDENTED_BYTES).unwrap_or(text)
}

/// The same JSON with line breaks and indentation; no number or string of it is touched. `None`
/// if it becomes too long.
///
/// Done on the text, because parsing and printing would round numbers and reorder keys. The
/// text is valid JSON here, so it is enough to know strings from the rest.
fn indented(json: &str) -> Option<String> {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut chars) = (0_usize, json.chars().peekable());
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT_DEPTH)));
    };
    while let Some(c) = chars.next() {
        if out.len() > MAX_INDENTED_BYTES {
            return None;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '"' => {
                out.push(c);
                while let Some(c) = chars.next() {
                    out.push(c);
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                let close = if c == '{' { '}' } else { ']' };
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                match chars.next_if_eq(&close) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => out.push(c),
        }
    }
    Some(out)
}

/// The same JSON on one line; no number or string of it is touched.
pub(crate) fn compact(json: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(json)?;
    let (mut out, mut within, mut escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if within {
            (within, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            within = c == '"';
        }
        out.push(c);
    }
    Ok(out)
}

/// Bytes for the browser to save; the headers keep it from showing or running them.
pub(crate) struct Download {
    /// The file name that the browser suggests.
    pub(crate) name: &'static str,
    /// The content.
    pub(crate) bytes: Vec<u8>,
}

impl<'r> Responder<'r, 'static> for Download {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let disposition = format!("attachment; filename=\"{}\"", self.name);
        Response::build_from(self.bytes.respond_to(request)?)
            .status(Status::Ok)
            .header(ContentType::Binary)
            .header(Header::new("Content-Disposition", disposition))
            .header(Header::new("Content-Security-Policy", "sandbox; default-src 'none'"))
            .header(Header::new("X-Content-Type-Options", "nosniff"))
            .header(Header::new("Cache-Control", "no-store"))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_no_digit_of_it_changes() {
        for (json, expected) in [
            ("12345678901234567890123", "12345678901234567890123"),
            ("{\"a\":1e2,\"b\":[]}", "{\n  \"a\": 1e2,\n  \"b\": []\n}"),
            ("[1.00, -0 ,{ }]", "[\n  1.00,\n  -0,\n  {}\n]"),
            ("[\"a, \\\"b\\\": {\"]", "[\n  \"a, \\\"b\\\": {\"\n]"),
            ("{\"a\":1,\"a\":1E+999}", "{\n  \"a\": 1,\n  \"a\": 1E+999\n}"),
            ("\"\\u00e9\\ud83d\"", "\"\\u00e9\\ud83d\""),
            ("{\"a\":1", "{\"a\":1"),
            ("plain", "plain"),
        ] {
            assert_eq!(pretty(json.as_bytes()), expected);
        }
        assert_eq!(pretty(b"\xff\x00"), "ff 00 ");
    }

    #[test]
    fn json_on_one_line_keeps_strings_and_digits() {
        let json = "{ \"a \\\" b\" :\r\n [1.00, 12345678901234567890123 ,\t\"\\\\\" ] }";
        let line = "{\"a \\\" b\":[1.00,12345678901234567890123,\"\\\\\"]}";
        assert_eq!(compact(json).unwrap(), line);
        assert!(compact("{").is_err());
    }

    #[test]
    fn deep_and_long_json_does_not_grow_without_bound() {
        for json in ["[".repeat(100) + &"]".repeat(100), "[".repeat(30_000) + &"]".repeat(30_000)] {
            assert!(pretty(json.as_bytes()).len() <= MAX_INDENTED_BYTES);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let text = "é".repeat(MAX_WHOLE_BYTES);
        assert_eq!(head(&text.as_bytes()[1..]).len(), 3 * HEAD_BYTES);
        assert_eq!(head(format!("x{text}").as_bytes()).len(), HEAD_BYTES - 1);
        assert_eq!(head(b"ab"), "ab");
    }
}
