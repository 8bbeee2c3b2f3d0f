//! The one grammar of durations: Go's `time.ParseDuration`, in the configuration, in schedules
//! (`@every 90s`) and in Asynq's option texts.
//!
//! Units are `ns`, `us` (or `µs`), `ms`, `s`, `m` and `h`; there are no days. Several parts add up,
//! in any order and with fractions: `1h30m`, `1.5h`. Go services read and write the same texts, so
//! what Go accepts is accepted here, and [`text`] prints as Go does.

use std::time::Duration;

/// Nanoseconds of a text such as `1h30m`, `1.5s`, `-20ms` or `0`, as Go's `time.ParseDuration`
/// reads it; `None` if Go refuses it. A number without a unit is refused, except 0. The longest
/// is about 292 years, the range of 64 bits.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split(rest, |c| !c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split(after, |c| !c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = split(after, |c| c.is_ascii_digit() || c == '.');
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        // More digits are below a nanosecond of every unit.
        let digits = &fraction[..fraction.len().min(18)];
        let part = if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? };
        let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
        total += u128::from(whole) * unit + part * unit / scale;
        rest = after;
    }
    let total = i128::try_from(total).ok()?;
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Splits a text before the first character for which `end` is true.
fn split(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// A duration as Go prints it: `1h0m0s`, `1m30s`, `1.5s`, `20µs`, `0s`.
pub(crate) fn text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    // Less than a second has one unit, with a fraction but without zeros at its end.
    let part = |unit: u128, name: &str| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() || unit == 1 { "" } else { "." };
        let fraction = if unit == 1 { "" } else { fraction };
        format!("{}{dot}{fraction}{name}", nanos / unit)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => part(1, "ns"),
        1_000..1_000_000 => part(1_000, "µs"),
        1_000_000..1_000_000_000 => part(1_000_000, "ms"),
        // From a second on Go prints hours, minutes and seconds, zeros in between included.
        _ => {
            let secs = duration.as_secs();
            let (hours, minutes) = (secs / 3600, secs / 60 % 60);
            let below = Duration::new(secs % 60, duration.subsec_nanos()).as_nanos();
            let fraction = format!("{:09}", below % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let dot = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{}{dot}{fraction}s", below / 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let of = |nanos: u64| text(Duration::from_nanos(nanos));
        let second = 1_000_000_000;
        assert_eq!(of(0), "0s");
        assert_eq!(of(7), "7ns");
        assert_eq!(of(20_000), "20µs");
        assert_eq!(of(1_500_000), "1.5ms");
        assert_eq!(of(1_500 * 1_000_000), "1.5s");
        assert_eq!(of(30 * second), "30s");
        assert_eq!(of(90 * second), "1m30s");
        assert_eq!(of(600 * second), "10m0s");
        assert_eq!(of(3600 * second), "1h0m0s");
        assert_eq!(of(86_400 * second), "24h0m0s");
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let second = 1_000_000_000;
        for (text, nanos) in [
            ("0", Some(0)),
            ("1h30m", Some(5400 * second)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(second)),
            ("-20ms", Some(-20_000_000)),
            ("+1us", Some(1000)),
            ("1µs", Some(1000)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("9223372036854775808ns", None),
            ("2562048h", None),
            ("", None),
            ("-", None),
            (".s", None),
            ("5", None),
            ("1 s", None),
            ("1d", None),
            ("s", None),
        ] {
            assert_eq!(parse(text), nanos, "{text:?}");
        }
    }
}
