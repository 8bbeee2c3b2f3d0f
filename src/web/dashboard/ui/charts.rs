//! Numbers over time as bars: SVG drawn on the server, readable without colour and scripts.
//!
//! Empty charts are left out. The last minute and the last day are not complete, so their bars are
//! low; counters written by other programs may have more failures than attempts.

use maud::{Markup, html};

use super::Texts;
use crate::broker::{DayStats, MinuteStats};
use crate::time::Timestamp;

/// Width of a bar and height of the chart, in units of the SVG, which is stretched.
const BAR_WIDTH: usize = 20;
const CHART_HEIGHT: u64 = 80;

/// One bar.
pub(crate) struct Bar {
    /// The time it stands for, as its tooltip says it.
    pub when: String,
    /// Its height.
    pub all: u64,
    /// The failed part, drawn over it.
    pub bad: u64,
}

/// Bars from left to right below a caption; nothing if all are empty. Sums and maximum are
/// also there as text, for readers who cannot see the bars.
pub(crate) fn bars(texts: &Texts, caption: &str, bars: &[Bar]) -> Markup {
    let most = bars.iter().map(|bar| bar.all.max(bar.bad)).max().unwrap_or_default();
    let (Some(first), Some(last), true) = (bars.first(), bars.last(), most > 0) else {
        return html! {};
    };
    let high =
        |count: u64| (u128::from(count) * u128::from(CHART_HEIGHT)).div_ceil(u128::from(most));
    let sum = |of: fn(&Bar) -> u64| bars.iter().map(of).fold(0_u64, u64::saturating_add);
    let (all, bad) = (sum(|bar| bar.all), sum(|bar| bar.bad));
    let total = (texts.chart_sum)(all, bad, most);
    html! {
        figure.card.chart {
            figcaption { span { (caption) } span { (total) } }
            svg viewBox={ "0 0 " (bars.len() * BAR_WIDTH) " " (CHART_HEIGHT) } role="img"
                aria-label={ (caption) ": " (total) } preserveAspectRatio="none" {
                @for (nth, bar) in bars.iter().enumerate() {
                    @if bar.all > 0 || bar.bad > 0 {
                        g {
                            title {
                                (bar.when) ": " (bar.all)
                                @if bar.bad > 0 { ", " (texts.chart_failed) " " (bar.bad) }
                            }
                            rect.ended x=(nth * BAR_WIDTH + 2) width=(BAR_WIDTH - 4)
                                y=(u128::from(CHART_HEIGHT) - high(bar.all)) height=(high(bar.all)) {}
                            @if bar.bad > 0 {
                                rect.failed x=(nth * BAR_WIDTH + 2) width=(BAR_WIDTH - 4)
                                    y=(u128::from(CHART_HEIGHT) - high(bar.bad)) height=(high(bar.bad)) {}
                            }
                        }
                    }
                }
            }
            div.ends { span { (first.when) } span { (last.when) } }
        }
    }
}

/// An instant as the time of day in UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    let minute = at.as_secs().div_euclid(60).rem_euclid(1440);
    format!("{:02}:{:02} UTC", minute / 60, minute % 60)
}

/// Attempts of the last hour, by the minute, this one at the right.
pub(crate) fn hour(texts: &Texts, now: Timestamp, minutes: &[MinuteStats]) -> Markup {
    let this = now.as_secs().div_euclid(60);
    let bar = |ago: i64| {
        let at = Timestamp::from_secs((this - ago) * 60);
        let found = minutes.iter().find(|minute| minute.at == at);
        let (all, bad) = found.map_or((0, 0), |minute| (minute.processed, minute.failed));
        Bar { when: clock(at), all, bad }
    };
    let caption = texts.chart_hour;
    bars(texts, caption, &(0..60).rev().map(bar).collect::<Vec<_>>())
}

/// Attempts by UTC day, today at the right.
pub(crate) fn days(texts: &Texts, days: &[DayStats]) -> Markup {
    let bar = |day: &DayStats| Bar { when: day.date.clone(), all: day.processed, bad: day.failed };
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
        Bar { when: "now".into(), all, bad }
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
    fn a_time_of_day_is_told_in_utc() {
        assert_eq!(clock(Timestamp::from_secs(86_400 + 3 * 3600 + 7 * 60 + 59)), "03:07 UTC");
    }
}
