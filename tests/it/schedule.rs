//! Schedules, against vectors made by robfig/cron 3.0.1 with Go 1.26: what it
//! refuses, and the next six instants of what it takes.

use std::time::{Duration, Instant};

use rocket_jobqueue::{Schedule, Timestamp};
use serde_json::Value;

fn secs(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn schedule(spec: &str) -> Schedule {
    Schedule::new(spec).unwrap_or_else(|error| panic!("{spec:?}: {error}"))
}

/// The next instants, up to the first that is never.
fn next(schedule: &Schedule, after: i64, most: usize) -> Vec<Option<i64>> {
    let mut found = Vec::new();
    let mut at = secs(after);
    while found.len() < most {
        let due = schedule.next(at);
        found.push(due.map(Timestamp::as_secs));
        let Some(due) = due else { break };
        at = due;
    }
    found
}

#[test]
fn every_specification_means_what_it_means_to_robfig_cron() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cron_schedules.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() > 500);
    let mut wrong = Vec::new();
    for case in &cases {
        let (spec, after) = (case["spec"].as_str().unwrap(), case["after"].as_i64().unwrap());
        let golden = case["next"].as_array().map(|all| all.iter().map(Value::as_i64).collect());
        let found = Schedule::new(spec).ok().map(|schedule| next(&schedule, after, 6));
        if found != golden {
            wrong.push(format!("{spec:?} after {after}:\n  {found:?}\n  {golden:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn in_a_zone_that_moves_by_half_an_hour_no_day_is_left_out() {
    // robfig/cron steps by whole hours there and misses the rest of the day.
    let daily = schedule("CRON_TZ=Australia/Lord_Howe 0 3 * * *");
    let due = next(&daily, 1_790_953_200, 4);
    assert_eq!(due, [1_790_958_600, 1_791_043_200, 1_791_129_600, 1_791_216_000].map(Some));
}

#[test]
fn the_hour_that_is_left_out_is_not_due_and_the_repeated_one_is_due_twice() {
    for (zone, forward, back) in [
        ("Europe/Berlin", 1_774_746_000, 1_792_890_000),
        ("America/New_York", 1_772_953_200, 1_793_512_800),
    ] {
        // Where clocks go from 2 to 3, and from 3 (Berlin) or 2 (New York) back.
        let gap = Schedule::new("30 2 * * *").unwrap().time_zone(zone).unwrap();
        let day = gap.next(secs(forward - 20 * 3600)).unwrap();
        assert_eq!(day.as_secs(), forward + 86_400 - 1800, "{zone}: not on the day of the gap");
        let repeated = if zone == "Europe/Berlin" { "30 2 * * *" } else { "30 1 * * *" };
        let overlap = Schedule::new(repeated).unwrap().time_zone(zone).unwrap();
        let first = overlap.next(secs(back - 7200)).unwrap();
        assert_eq!(first.as_secs(), back - 1800, "{zone}");
        assert_eq!(overlap.next(first).unwrap().as_secs(), back + 1800, "{zone}");
    }
}

#[test]
fn an_interval_counts_from_the_epoch_so_that_all_processes_agree() {
    for (spec, step) in [
        ("@every 1s", 1),
        ("@every 90s", 90),
        ("@every 1h", 3600),
        ("@every 1.9s", 1),
        ("@every 10ms", 1),
        ("@every -5m", 1),
        ("CRON_TZ=Europe/Berlin @every 7s", 7),
    ] {
        let due = schedule(spec).next(Timestamp::from_micros(1_770_000_001_000_001)).unwrap();
        assert_eq!(due.as_secs() % step, 0, "{spec}");
        assert!(due.as_secs() > 1_770_000_001 && due.as_secs() <= 1_770_000_001 + step, "{spec}");
    }
}

#[test]
fn the_latest_instant_is_found_without_walking_there() {
    let began = Instant::now();
    for (spec, after, until, latest) in [
        ("* * * * *", 0, 1_770_000_059, Some(1_770_000_000)),
        ("* * * * *", 1_770_000_000, 1_770_000_059, None),
        ("* * * * *", 1_769_999_999, 1_770_000_000, Some(1_770_000_000)),
        ("@every 1s", 0, 1_770_000_001, Some(1_770_000_001)),
        ("0 3 * * *", 1_600_000_000, 1_770_000_000, Some(1_769_914_800)),
        ("* * * 1 *", 1_738_400_000, 1_790_000_000, Some(1_769_903_940)),
        ("0 0 31 2 *", 0, 1_770_000_000, None),
    ] {
        let found = schedule(spec).latest(secs(after), secs(until));
        assert_eq!(found.map(Timestamp::as_secs), latest, "{spec}");
    }
    // Walking would take tens of millions of steps.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_refused_specification_says_what_was_expected_and_what_was_found() {
    for (spec, expected, found) in [
        ("61 * * * *", "values within the bounds in the field minute (0-59)", "\"61\""),
        ("0 0 * * 7", "the field day of week (0-6)", "\"7\""),
        ("* * * *", "five fields", "4 in \"* * * *\""),
        ("@hourly!", "@every <duration>", "\"@hourly!\""),
        ("@every soon", "a duration such as 90s", "\"soon\""),
        ("TZ=Europe/Berlim 0 3 * * *", "a time zone of the IANA database", "\"Europe/Berlim\""),
        ("TZ=Local 0 3 * * *", "a time zone of the IANA database", "\"Local\""),
    ] {
        let error = Schedule::new(spec).unwrap_err();
        assert!(error.is_invalid());
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(found), "{spec}: {text}");
    }
    let error = schedule("TZ=UTC 0 3 * * *").time_zone("Europe/Berlin").unwrap_err();
    assert!(error.to_string().contains("no time zone"), "{error}");
}

#[test]
fn nothing_that_can_be_written_takes_long_or_panics() {
    assert!(Schedule::new(format!("{}* * * * *", " ".repeat(248))).is_err());
    assert!(Schedule::new(format!("{}* * * * *", " ".repeat(247))).is_ok());
    let alphabet: Vec<char> = "0123456789*/-,? @TZ=:+evrymonjanUC\u{1F600}\0\t".chars().collect();
    let seed = std::collections::hash_map::RandomState::new();
    let began = Instant::now();
    for round in 0..20_000_u64 {
        let mut random = std::hash::BuildHasher::hash_one(&seed, round);
        let mut spec = String::new();
        for _ in 0..random % 40 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            spec.push(alphabet[(random >> 33) as usize % alphabet.len()]);
        }
        if let Ok(schedule) = Schedule::new(spec) {
            let _ = schedule.next(Timestamp::from_micros(random as i64));
        }
    }
    for edge in [i64::MIN, i64::MIN / 2, -1, 0, i64::MAX - 1, i64::MAX] {
        for spec in ["* * * * *", "@every 1s", "0 0 31 2 *", "@every 2562047h"] {
            let _ = schedule(spec).next(Timestamp::from_micros(edge));
            let _ = schedule(spec).latest(Timestamp::from_micros(edge), secs(0));
        }
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
