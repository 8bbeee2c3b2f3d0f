//! Moments as people write them: `tomorrow 9:00`, `in 20 minutes`, `2026-12-24 18:00`, `明日 9:00`.
//!
//! A day or a time of day is one of the reader's time zone. Nothing is guessed: what cannot be
//! read is an error that names the forms there are, and so is a time that the zone's clocks skip.
//! Of a time that comes twice, when clocks go back, the first is meant; pages show the moment with
//! its offset before anything is done with it.
//!
//! | written | meant |
//! | --- | --- |
//! | `now` | this moment |
//! | `90s`, `20 min`, `in 2 hours`, `1h30m`, `3日後` | that long from now |
//! | `18:00`, `9am`, `9時半` | that time of day, tomorrow if it has passed today |
//! | `tomorrow`, `tomorrow 9:00`, `monday 9:00`, `明日 9時` | that day, 0:00 without a time |
//! | `2026-12-24`, `2026-12-24 18:00` | that day, in the reader's zone |
//! | `2026-12-24T18:00:00Z` | that moment |
#![cfg_attr(not(feature = "dashboard"), allow(dead_code, reason = "the rest is for pages"))]

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeZone, Weekday};
use chrono_tz::Tz;

use crate::error::Error;
use crate::time::Timestamp;

/// The longest duration: ten years.
const MAX_SECONDS: u64 = 10 * 366 * 86_400;

/// Units of a duration and their seconds. A longer name comes before its beginning.
const UNITS: [(&str, u64); 26] = [
    ("seconds", 1),
    ("second", 1),
    ("secs", 1),
    ("sec", 1),
    ("minutes", 60),
    ("minute", 60),
    ("mins", 60),
    ("min", 60),
    ("hours", 3600),
    ("hour", 3600),
    ("hrs", 3600),
    ("hr", 3600),
    ("days", 86_400),
    ("day", 86_400),
    ("weeks", 604_800),
    ("week", 604_800),
    ("s", 1),
    ("m", 60),
    ("h", 3600),
    ("d", 86_400),
    ("w", 604_800),
    ("秒", 1),
    ("分", 60),
    ("時間", 3600),
    ("日", 86_400),
    ("週間", 604_800),
];

/// The moment that a text means, from `now` on, in this zone.
///
/// # Errors
/// [`Error::is_invalid`] for a text that means none, for a time that the zone's clocks skip, and
/// for a duration of more than ten years.
pub(crate) fn parse(text: &str, now: Timestamp, zone: Tz) -> Result<Timestamp, Error> {
    let text = plain(text);
    if matches!(text.as_str(), "now" | "今" | "今すぐ") {
        return Ok(now);
    }
    if let Some(at) = Timestamp::parse(&text.to_uppercase()) {
        return Ok(at);
    }
    let from_now = text.strip_prefix("in ").or_else(|| text.strip_prefix('+')).unwrap_or(&text);
    let from_now = from_now.strip_suffix("後").unwrap_or(from_now);
    if let Some(length) = duration(from_now) {
        return within(length).map(|length| now + length);
    }
    let here = now.to_utc().ok_or_else(|| unreadable(&text))?.with_timezone(&zone);
    on_a_day(&text, here).ok_or_else(|| unreadable(&text))?.resolve(zone)
}

/// The past moment that a text means: a duration is that long ago.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_past(text: &str, now: Timestamp, zone: Tz) -> Result<Timestamp, Error> {
    let ago = plain(text);
    let ago = ago.strip_suffix(" ago").or_else(|| ago.strip_suffix("前")).unwrap_or(&ago);
    match duration(ago) {
        Some(length) => within(length).map(|length| now - length),
        None => parse(text, now, zone),
    }
}

/// In lower case, with single spaces, and with the digits and colons of a Japanese keyboard as
/// ASCII.
fn plain(text: &str) -> String {
    let narrow = |c: char| match c {
        '０'..='９' => char::from(b'0' + (u32::from(c) - u32::from('０')) as u8),
        '：' => ':',
        '　' => ' ',
        c => c,
    };
    let text: String = text.chars().map(narrow).collect();
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// # Errors
/// For more than ten years.
fn within(length: Duration) -> Result<Duration, Error> {
    match length.as_secs() <= MAX_SECONDS {
        true => Ok(length),
        false => Err(Error::invalid("when: expected at most ten years, found more")),
    }
}

/// The error for a text that means no moment.
fn unreadable(text: &str) -> Error {
    let found: String = text.chars().take(60).collect();
    Error::invalid(format!(
        "when: expected a moment such as \"in 20 minutes\", \"18:00\", \"tomorrow 9:00\", \"monday \
         9:00\" or \"2026-12-24 18:00\", found {found:?}"
    ))
}

/// Numbers with units, such as `1h 30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..end)?.parse().ok()?;
        rest = rest[end..].trim_start();
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest[unit.len()..].trim_start();
        seconds = seconds.checked_add(number.checked_mul(length)?)?;
    }
    Some(Duration::from_secs(seconds))
}

/// A day and a time of it, as clocks on a wall show them.
struct WallTime {
    day: NaiveDate,
    time: NaiveTime,
}

impl WallTime {
    /// The moment in this zone.
    fn resolve(&self, zone: Tz) -> Result<Timestamp, Error> {
        let wall = self.day.and_time(self.time);
        match zone.from_local_datetime(&wall).earliest() {
            Some(at) => Ok(Timestamp::from_micros(at.timestamp_micros())),
            None => Err(Error::invalid(format!(
                "when: expected a time that exists in {zone}, found {}: clocks go forward then",
                wall.format("%Y-%m-%d %H:%M")
            ))),
        }
    }
}

/// A day, a time of day, or both.
fn on_a_day(text: &str, here: DateTime<Tz>) -> Option<WallTime> {
    let today = here.date_naive();
    if let Some(time) = time_of_day(text) {
        let day = if time > here.time() { today } else { today.checked_add_days(Days::new(1))? };
        return Some(WallTime { day, time });
    }
    let (day, rest) = day_of(text, today)?;
    let rest = rest.trim_start_matches(['t', ',', 'の']).trim();
    let rest = rest.strip_prefix("at ").unwrap_or(rest);
    let time = if rest.is_empty() { NaiveTime::MIN } else { time_of_day(rest)? };
    Some(WallTime { day, time })
}

/// The day at the beginning of a text, and the rest.
fn day_of(text: &str, today: NaiveDate) -> Option<(NaiveDate, &str)> {
    let days = [
        ("day after tomorrow", 2),
        ("yesterday", -1),
        ("tomorrow", 1),
        ("today", 0),
        ("明後日", 2),
        ("明日", 1),
        ("今日", 0),
        ("本日", 0),
        ("昨日", -1),
    ];
    for (name, ahead) in days {
        if let Some(rest) = text.strip_prefix(name) {
            return Some((today.checked_add_signed(chrono::Duration::days(ahead))?, rest));
        }
    }
    if let Some(date) = text.get(..10)
        && let Ok(day) = NaiveDate::parse_from_str(&date.replace('/', "-"), "%Y-%m-%d")
    {
        return Some((day, &text[10..]));
    }
    let text = text.strip_prefix("next ").unwrap_or(text);
    let names = [
        ("monday", "mon", "月曜", Weekday::Mon),
        ("tuesday", "tue", "火曜", Weekday::Tue),
        ("wednesday", "wed", "水曜", Weekday::Wed),
        ("thursday", "thu", "木曜", Weekday::Thu),
        ("friday", "fri", "金曜", Weekday::Fri),
        ("saturday", "sat", "土曜", Weekday::Sat),
        ("sunday", "sun", "日曜", Weekday::Sun),
    ];
    names.into_iter().find_map(|(long, short, japanese, weekday)| {
        let rest = [long, short, japanese].into_iter().find_map(|name| text.strip_prefix(name))?;
        let rest = rest.strip_prefix('日').unwrap_or(rest);
        // Another word, such as `month`.
        if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        // Always a day to come: on a Monday, `monday` is in a week.
        let ahead =
            (7 + weekday.num_days_from_monday() - today.weekday().num_days_from_monday()) % 7;
        let ahead = if ahead == 0 { 7 } else { ahead };
        Some((today.checked_add_days(Days::new(ahead.into()))?, rest))
    })
}

/// `18:00`, `18:00:30`, `9am`, `9:30 pm`, `9時`, `9時半`, `9時15分`, `noon`, `midnight`.
fn time_of_day(text: &str) -> Option<NaiveTime> {
    let text = text.trim();
    match text {
        "noon" | "正午" => return NaiveTime::from_hms_opt(12, 0, 0),
        "midnight" => return Some(NaiveTime::MIN),
        _ => {}
    }
    let japanese = text.strip_suffix("時半").map(|hour| format!("{hour}:30"));
    let japanese = japanese.or_else(|| text.strip_suffix('時').map(|hour| format!("{hour}:00")));
    let japanese = japanese.or_else(|| {
        text.strip_suffix('分')
            .and_then(|text| text.split_once('時'))
            .map(|(h, m)| format!("{h}:{m}"))
    });
    if let Some(text) = japanese {
        return clock(&text);
    }
    for (suffix, noon) in [("am", 0), ("pm", 12)] {
        let Some(text) = text.strip_suffix(suffix).map(str::trim) else { continue };
        let (hour, rest) = text.split_once(':').unwrap_or((text, "00"));
        let hour: u32 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
        return clock(&format!("{}:{rest}", hour % 12 + noon));
    }
    clock(text)
}

/// Hours and minutes, perhaps seconds, with colons.
fn clock(text: &str) -> Option<NaiveTime> {
    let parts: Vec<u32> = text
        .split(':')
        .map(|part| (1..=2).contains(&part.len()).then(|| part.parse().ok()).flatten())
        .collect::<Option<_>>()?;
    match *parts {
        [hour, minute] => NaiveTime::from_hms_opt(hour, minute, 0),
        [hour, minute, second] => NaiveTime::from_hms_opt(hour, minute, second),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tuesday, the 1st of December, 03:00 UTC: noon in Tokyo.
    fn now() -> Timestamp {
        Timestamp::parse("2026-12-01T03:00:00Z").unwrap()
    }

    fn at(text: &str, zone: Tz) -> String {
        parse(text, now(), zone).unwrap().to_utc().unwrap().format("%d %H:%M:%S").to_string()
    }

    #[test]
    fn a_moment_is_read_in_the_readers_zone() {
        for (text, utc, tokyo) in [
            ("now", "01 03:00:00", "01 03:00:00"),
            ("in 20 minutes", "01 03:20:00", "01 03:20:00"),
            ("90s", "01 03:01:30", "01 03:01:30"),
            ("1h30m", "01 04:30:00", "01 04:30:00"),
            ("2 days 1 hour", "03 04:00:00", "03 04:00:00"),
            ("3日後", "04 03:00:00", "04 03:00:00"),
            ("5分後", "01 03:05:00", "01 03:05:00"),
            ("tomorrow 9:00", "02 09:00:00", "02 00:00:00"),
            ("Tomorrow at 9am", "02 09:00:00", "02 00:00:00"),
            ("明日　９：００", "02 09:00:00", "02 00:00:00"),
            ("明日9時半", "02 09:30:00", "02 00:30:00"),
            ("day after tomorrow", "03 00:00:00", "02 15:00:00"),
            // 9:00 has passed in Tokyo, where it is noon.
            ("9:00", "01 09:00:00", "02 00:00:00"),
            ("12:30 pm", "01 12:30:00", "01 03:30:00"),
            ("noon", "01 12:00:00", "02 03:00:00"),
            ("monday 9:00", "07 09:00:00", "07 00:00:00"),
            ("tuesday", "08 00:00:00", "07 15:00:00"),
            ("月曜日の9時15分", "07 09:15:00", "07 00:15:00"),
            ("2026-12-24 18:00", "24 18:00:00", "24 09:00:00"),
            ("2026/12/24", "24 00:00:00", "23 15:00:00"),
            ("2026-12-24T18:00", "24 18:00:00", "24 09:00:00"),
            ("2026-12-24T18:00:00+09:00", "24 09:00:00", "24 09:00:00"),
        ] {
            assert_eq!(at(text, Tz::UTC), utc, "{text}");
            assert_eq!(at(text, Tz::Asia__Tokyo), tokyo, "{text}");
        }
    }

    #[test]
    fn what_means_no_moment_is_an_error_that_shows_the_forms() {
        for text in [
            "",
            "soon",
            "9",
            "25:00",
            "9:60",
            "13pm",
            "tomorrow soon",
            "2026-13-01",
            "month",
            "5",
            "5 parsecs",
            "-1h",
            "1h -30m",
            "明日か",
            "99999999999999999999s",
            "é日",
            "日日",
        ] {
            let error = parse(text, now(), Tz::UTC).unwrap_err();
            assert!(
                error.is_invalid() && error.to_string().contains("tomorrow 9:00"),
                "{text}: {error}"
            );
        }
        assert!(parse("4000 days", now(), Tz::UTC).unwrap_err().is_invalid());
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_refused_and_of_two_the_first_is_meant() {
        let berlin = Tz::Europe__Berlin;
        let error = parse("2027-03-28 02:30", now(), berlin).unwrap_err().to_string();
        assert!(error.contains("clocks go forward"), "{error}");
        let twice = parse("2026-10-25 02:30", now(), berlin).unwrap();
        assert_eq!(twice, Timestamp::parse("2026-10-25T00:30:00Z").unwrap());
    }

    #[test]
    fn a_duration_of_the_past_is_ago() {
        let past = |text| parse_past(text, now(), Tz::UTC).unwrap();
        assert_eq!(past("1h"), now() - Duration::from_secs(3600));
        assert_eq!(past("2 days ago"), now() - Duration::from_secs(172_800));
        assert_eq!(past("30分前"), now() - Duration::from_secs(1800));
        assert_eq!(past("yesterday"), Timestamp::parse("2026-11-30T00:00:00Z").unwrap());
    }
}
