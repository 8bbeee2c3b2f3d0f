//! Numbers over time as bars: SVG drawn on the server, readable without colour and scripts.
//!
//! Empty charts are left out. The last minute and the last day are not complete, so their bars are
//! low; counters written by other programs may have more failures than attempts.

use maud::{Markup, html};

use super::Texts;
use crate::broker::{Coverage, DayStats, MinuteStats};
use crate::job::QueueName;
use crate::time::Timestamp;

/// Width of a bar and height of the chart, in units of the SVG, which is stretched.
const BAR_WIDTH: usize = 20;
const CHART_HEIGHT: u64 = 80;

/// Maximum names of queues in a note.
const MAX_NAMES: usize = 5;

/// One bar.
pub(crate) struct Bar {
    /// The time it stands for, as its tooltip says it.
    pub when: String,
    /// Its height.
    pub all: u64,
    /// The failed part, drawn over it.
    pub bad: u64,
    /// Whether something of this time was not counted.
    pub is_partial: bool,
    /// What happened in its time, such as the first run of a version: marked by a line.
    pub note: Option<String>,
}

/// Bars from left to right below a caption, with axes; nothing if all are empty. The script lets
/// a mouse or the arrow keys read one bar; the list below has all values without it.
pub(crate) fn bars(texts: &Texts, caption: &str, bars: &[Bar]) -> Markup {
    let most = bars.iter().map(|bar| bar.all.max(bar.bad)).max().unwrap_or_default();
    if most == 0 {
        return html! {};
    }
    let sum = |of: fn(&Bar) -> u64| bars.iter().map(of).fold(0_u64, u64::saturating_add);
    let (all, bad) = (sum(|bar| bar.all), sum(|bar| bar.bad));
    let mut total = (texts.chart_sum)(all, bad, most);
    if bars.iter().any(|bar| bar.is_partial) {
        total = (texts.chart_partial)(&total);
    }
    let top = ceiling(most);
    html! {
        figure.card.chart data-chart=(caption) {
            figcaption { span.name { (caption) } span.total { (total) } }
            div.plot {
                div.scale aria-hidden="true" {
                    span { (top) }
                    @if top > 1 { span { (top / 2) } }
                    span { "0" }
                }
                (drawing(texts, &format!("{caption}: {total}"), top, bars))
                div.ends aria-hidden="true" { @for when in ticks(bars) { span { (when) } } }
            }
            @if bad > 0 {
                p.legend {
                    span { (swatch("ended")) (texts.chart_attempts) }
                    span { (swatch("failed")) (texts.chart_failed) }
                }
            }
            (values(texts, bars))
        }
    }
}

/// The bars as SVG, with a line at the top and one in the middle.
fn drawing(texts: &Texts, label: &str, top: u64, bars: &[Bar]) -> Markup {
    let high =
        |count: u64| (u128::from(count) * u128::from(CHART_HEIGHT)).div_ceil(u128::from(top));
    let part = |class: &str, x: usize, count: u64| {
        html! {
            rect class=(class) x=(x + 2) width=(BAR_WIDTH - 4)
                y=(u128::from(CHART_HEIGHT) - high(count)) height=(high(count)) {}
        }
    };
    let width = bars.len() * BAR_WIDTH;
    html! {
        svg.bars viewBox={ "0 0 " (width) " " (CHART_HEIGHT) } role="img"
            aria-label=(label) preserveAspectRatio="none" {
            @for y in [0, CHART_HEIGHT / 2, CHART_HEIGHT] {
                line.grid x1="0" x2=(width) y1=(y) y2=(y) {}
            }
            @for (nth, bar) in bars.iter().enumerate() {
                g {
                    title { (value(texts, bar)) }
                    rect.room.partial[bar.is_partial] x=(nth * BAR_WIDTH) y="0" width=(BAR_WIDTH) height="100%" {}
                    @if bar.all > 0 { (part("ended", nth * BAR_WIDTH, bar.all)) }
                    @if bar.bad > 0 { (part("failed", nth * BAR_WIDTH, bar.bad)) }
                    @if bar.note.is_some() {
                        line.mark x1=(nth * BAR_WIDTH) x2=(nth * BAR_WIDTH) y1="0" y2=(CHART_HEIGHT) {}
                    }
                }
            }
        }
    }
}

/// What one bar says.
fn value(texts: &Texts, bar: &Bar) -> Markup {
    if bar.is_partial && bar.all == 0 && bar.bad == 0 {
        return html! { (bar.when) ": " (texts.chart_unknown) };
    }
    html! { (bar.when) @if let Some(note) = &bar.note { " (" (note) ")" } ": " (bar.all) @if bar.bad > 0 { ", " (texts.chart_failed) " " (bar.bad) } }
}

/// The end of the vertical axis: at least `most`, and even above 1, so that the middle is whole.
fn ceiling(most: u64) -> u64 {
    if most <= 2 {
        return most;
    }
    let mut unit = 1_u64;
    loop {
        for step in [4, 6, 8, 10, 20] {
            match unit.checked_mul(step) {
                Some(top) if top >= most => return top,
                Some(_) => {}
                None => return most,
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// The times below the horizontal axis: the first, the last, and up to three between.
fn ticks(bars: &[Bar]) -> Vec<&str> {
    let last = bars.len().saturating_sub(1);
    let parts = last.clamp(1, 4);
    (0..=parts).filter_map(|nth| bars.get(last * nth / parts)).map(|bar| &*bar.when).collect()
}

/// The colour of a part, in the legend.
fn swatch(class: &str) -> Markup {
    html! { svg viewBox="0 0 8 8" aria-hidden="true" { rect class=(class) width="8" height="8" {} } }
}

/// All values that are not zero, folded.
fn values(texts: &Texts, bars: &[Bar]) -> Markup {
    html! {
        details {
            summary { (texts.chart_values) }
            ol { @for bar in bars.iter().filter(|bar| bar.all > 0 || bar.bad > 0) { li { (value(texts, bar)) } } }
        }
    }
}

/// An instant as the time of day in UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    let minute = at.as_secs().div_euclid(60).rem_euclid(1440);
    format!("{:02}:{:02} UTC", minute / 60, minute % 60)
}

/// The queues whose last hour was not counted by minute as a whole.
#[derive(Default)]
pub(crate) struct Uncounted {
    /// Those that were counted from a minute on.
    pub partly: Vec<(QueueName, Timestamp)>,
    /// Those that were not counted at all.
    pub never: Vec<QueueName>,
}

impl Uncounted {
    /// Takes note of a queue.
    pub(crate) fn add(&mut self, queue: &QueueName, coverage: Coverage) {
        match coverage {
            Coverage::Whole => {}
            Coverage::Since(at) => self.partly.push((queue.clone(), at)),
            Coverage::Nothing => self.never.push(queue.clone()),
        }
    }

    /// What is missing in the chart, in words.
    fn note(&self, texts: &Texts) -> Markup {
        let since = self.partly.iter().map(|(_, at)| *at).max();
        let names = |queues: &mut dyn Iterator<Item = &QueueName>| {
            let mut shown: Vec<_> = queues.take(MAX_NAMES + 1).map(QueueName::printable).collect();
            let more = if shown.len() > MAX_NAMES { ", …" } else { "" };
            shown.truncate(MAX_NAMES);
            format!("{}{more}", shown.join(", "))
        };
        html! {
            @if let Some(since) = since {
                p.hint { ((texts.chart_since)(&names(&mut self.partly.iter().map(|(name, _)| name)), &clock(since))) }
            }
            @if !self.never.is_empty() {
                p.hint { ((texts.chart_uncounted)(&names(&mut self.never.iter()))) }
            }
        }
    }
}

/// Attempts of the last hour, by the minute, this one at the right, and below it what was not counted.
pub(crate) fn counted_hour(
    texts: &Texts,
    now: Timestamp,
    minutes: &[MinuteStats],
    uncounted: &Uncounted,
) -> Markup {
    html! { (hour(texts, now, minutes, uncounted)) (uncounted.note(texts)) }
}

/// Attempts of the last hour, by the minute, this one at the right.
fn hour(texts: &Texts, now: Timestamp, minutes: &[MinuteStats], uncounted: &Uncounted) -> Markup {
    let whole_from = uncounted.partly.iter().map(|(_, at)| *at).max();
    let is_never_whole = !uncounted.never.is_empty();
    let this = now.as_secs().div_euclid(60);
    let bar = |ago: i64| {
        let at = Timestamp::from_secs((this - ago) * 60);
        let found = minutes.iter().find(|minute| minute.at == at);
        let (all, bad) = found.map_or((0, 0), |minute| (minute.processed, minute.failed));
        let is_partial = is_never_whole || whole_from.is_some_and(|from| at < from);
        Bar { when: clock(at), all, bad, is_partial, note: None }
    };
    let caption = texts.chart_hour;
    bars(texts, caption, &(0..60).rev().map(bar).collect::<Vec<_>>())
}

/// Attempts by UTC day, today at the right.
pub(crate) fn days(texts: &Texts, days: &[DayStats]) -> Markup {
    let bar = |day: &DayStats| Bar {
        when: day.date.clone(),
        all: day.processed,
        bad: day.failed,
        is_partial: false,
        note: None,
    };
    let caption = (texts.chart_days)(days.len());
    bars(texts, &caption, &days.iter().rev().map(bar).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn english() -> &'static Texts {
        Texts::preferred(Some("en"))
    }

    fn bar(all: u64, bad: u64) -> Bar {
        Bar { when: "now".into(), all, bad, is_partial: false, note: None }
    }

    #[test]
    fn empty_charts_are_left_out_and_others_say_their_sums() {
        assert_eq!(bars(english(), "c", &[bar(0, 0)]).into_string(), "");
        assert_eq!(bars(english(), "c", &[]).into_string(), "");
        let drawn = bars(english(), "c", &[bar(2, 1), bar(4, 0)]).into_string();
        assert!(drawn.contains("6 in total, 1 failed, at most 4"), "{drawn}");
        // A small number stays visible, and a large one does not overflow.
        let drawn = bars(english(), "c", &[bar(u64::MAX, 1)]).into_string();
        assert!(drawn.contains(r#"height="80""#) && drawn.contains(r#"height="1""#), "{drawn}");
        // Other programs may have counted more failures than attempts.
        let drawn = bars(english(), "c", &[bar(1, u64::MAX)]).into_string();
        assert!(drawn.contains(r#"height="80""#), "{drawn}");
    }

    #[test]
    fn minutes_that_were_not_counted_are_unknown() {
        let minute =
            |at| MinuteStats { at: Timestamp::from_secs(at), processed: 5, failed: 0, waiting: 0 };
        let (now, queue) = (Timestamp::from_secs(7210), QueueName::new("bills").unwrap());
        let mut uncounted = Uncounted::default();
        uncounted.add(&queue, Coverage::Since(Timestamp::from_secs(7140)));
        let minutes = [minute(7140), minute(7200)];
        let drawn = counted_hour(english(), now, &minutes, &uncounted).into_string();
        for text in [
            "incomplete: 10 in total",
            "01:58 UTC: unknown",
            "01:59 UTC: 5",
            "before 01:59 UTC nobody counted the attempts by minute of bills",
        ] {
            assert!(drawn.contains(text), "{text}: {drawn}");
        }
        // Without a minute there is no chart, but the reason.
        let mut uncounted = Uncounted::default();
        uncounted.add(&queue, Coverage::Nothing);
        let drawn = counted_hour(english(), now, &[], &uncounted).into_string();
        assert!(drawn.starts_with("<p class=\"hint\">Unknown: "), "{drawn}");
        let drawn = counted_hour(english(), now, &[], &Uncounted::default()).into_string();
        assert_eq!(drawn, "");
    }

    #[test]
    fn the_axis_ends_at_a_round_number_with_a_whole_middle() {
        for (most, top) in [(1, 1), (2, 2), (3, 4), (5, 6), (11, 20), (21, 40), (99, 100)] {
            assert_eq!(ceiling(most), top, "{most}");
        }
        assert_eq!(ceiling(u64::MAX), u64::MAX);
        let days: Vec<Bar> = (0..90)
            .map(|day| Bar { when: day.to_string(), all: 1, bad: 0, is_partial: false, note: None })
            .collect();
        assert_eq!(ticks(&days), ["0", "22", "44", "66", "89"]);
        assert_eq!(ticks(&days[..1]), ["0", "0"]);
    }

    #[test]
    fn a_time_of_day_is_told_in_utc() {
        assert_eq!(clock(Timestamp::from_secs(86_400 + 3 * 3600 + 7 * 60 + 59)), "03:07 UTC");
    }
}
