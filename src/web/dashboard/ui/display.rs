//! How a reader wants pages: theme, language, time zone, and whether times are told as distances.
//!
//! Each choice is a cookie of this path, so it holds without scripts and for every page. A cookie
//! with a value that is not ours counts as none. The zone is the browser's own unless one is
//! chosen; only the script knows it, and keeps it in a cookie of its own. Without it times are UTC,
//! and say so.
//!
//! Pages write times as `time` elements in UTC ([`parts::instant`](super::parts::instant)); the
//! finished page gets them in the reader's zone here, so that no page can forget to.

use std::borrow::Cow;

use chrono_tz::Tz;
use rocket::request::Request;

use crate::time::Timestamp;

/// The cookie of each choice.
pub(crate) const THEME: &str = "jobqueue_theme";
/// The language.
pub(crate) const LANGUAGE: &str = "jobqueue_language";
/// The zone that was chosen.
pub(crate) const ZONE: &str = "jobqueue_zone";
/// Whether times are absolute.
pub(crate) const TIMES: &str = "jobqueue_times";
/// The browser's own zone, set by the script.
const LOCAL: &str = "jobqueue_local";

/// The themes one can choose; the first is the system's.
pub(crate) const THEMES: [&str; 3] = ["system", "light", "dark"];

/// The choices of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Display {
    /// `light` or `dark`; `None` for the system's.
    pub theme: Option<&'static str>,
    /// The zone of all times.
    pub zone: Tz,
    /// Whether the zone is the browser's own.
    pub is_local: bool,
    /// Whether times are told in full, not as distances.
    pub absolute: bool,
}

impl Display {
    /// The choices that a request's cookies say.
    pub(crate) fn of(request: &Request<'_>) -> Self {
        let cookies = request.cookies();
        let value = |name: &str| cookies.get(name).map(|cookie| cookie.value().to_owned());
        let zone = |name: &str| value(name).and_then(|name| name.parse::<Tz>().ok());
        let theme = value(THEME);
        let chosen = zone(ZONE);
        Self {
            theme: THEMES.into_iter().skip(1).find(|name| Some(*name) == theme.as_deref()),
            zone: chosen.or_else(|| zone(LOCAL)).unwrap_or(Tz::UTC),
            is_local: chosen.is_none(),
            absolute: value(TIMES).as_deref() == Some("absolute"),
        }
    }
}

/// A moment on the wall clock of a zone, with the zone's name or offset.
pub(crate) fn local_text(at: Timestamp, zone: Tz) -> String {
    match at.to_utc() {
        Some(utc) => utc.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string(),
        None => at.to_string(),
    }
}

/// The page with its times as the reader wants them: as distances with the full time as their
/// title, or the other way round.
pub(super) fn shown<'a>(page: &'a str, display: &Display) -> Cow<'a, str> {
    const BEGIN: &str = "<time datetime=\"";
    if !page.contains(BEGIN) {
        return Cow::Borrowed(page);
    }
    let mut shown = String::with_capacity(page.len() + 1024);
    let mut rest = page;
    while let Some(at) = rest.find(BEGIN) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((time, after)) = element(rest) else {
            shown.push_str(BEGIN);
            rest = &rest[BEGIN.len()..];
            continue;
        };
        let full = local_text(time.at, display.zone);
        let (title, text) = match display.absolute {
            true => (time.text, full.as_str()),
            false => (full.as_str(), time.text),
        };
        shown.push_str(&format!("{BEGIN}{}\" title=\"{title}\">{text}</time>", time.datetime));
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// A `time` element of ours.
struct Element<'a> {
    at: Timestamp,
    datetime: &'a str,
    text: &'a str,
}

/// The element at the beginning of a page, and what follows it; `None` for one that has other
/// attributes than ours.
fn element(page: &str) -> Option<(Element<'_>, &str)> {
    let (datetime, rest) = page.strip_prefix("<time datetime=\"")?.split_once("\" title=\"")?;
    let (_, rest) = rest.split_once("\">")?;
    let (text, after) = rest.split_once("</time>")?;
    Some((Element { at: Timestamp::parse(datetime)?, datetime, text }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_readers_zone() {
        let page = "<p><time datetime=\"2026-12-01T03:00:00.5Z\" title=\"2026-12-01T03:00:00.5Z\">\
                    1 s ago</time> <time datetime=\"x\">y</time></p>";
        let display =
            Display { theme: None, zone: Tz::Asia__Tokyo, is_local: true, absolute: false };
        let found = shown(page, &display);
        assert!(found.contains("title=\"2026-12-01 12:00:00 JST\">1 s ago<"), "{found}");
        assert!(found.ends_with("<time datetime=\"x\">y</time></p>"), "{found}");
        let found = shown(page, &Display { absolute: true, ..display });
        assert!(found.contains("title=\"1 s ago\">2026-12-01 12:00:00 JST<"), "{found}");
    }
}
