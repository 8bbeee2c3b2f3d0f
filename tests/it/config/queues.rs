//! Queues, the limits of their archives, and periodic jobs.

use rocket_jobqueue::limits::{Limit, Rate};

use super::*;
use rocket_jobqueue::limits::MaxWaiting;

#[test]
fn queues_of_all_layers_make_one_table() {
    let config = Project::new()
        .toml("[default.jobqueue.queues]\nmail = 1\nslow = 1\n'a.b' = 7")
        .yaml("jobqueue: {queues: {mail: 3, slow: 0}}")
        .load();
    assert_eq!(format!("{:?}", config.jobqueue.queues), r#"{"a.b": 7, "mail": 3}"#);
}

#[test]
fn each_queue_may_have_limits_of_its_archive_and_takes_the_rest_from_all() {
    let config = Project::new()
        .toml(
            "[default.jobqueue]
archive_max = 500
release_lock_on_archive = true
[default.jobqueue.archive.mail]
max = 20
[default.jobqueue.archive.'a.b']
age = '1h'",
        )
        .yaml("jobqueue: {archive_age: 48h, archive: {mail: {max: 30}}}")
        .load();

    let archive = &config.jobqueue.archive;
    let limit = |queue: &str| archive.of(&rocket_jobqueue::QueueName::new(queue).unwrap());
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!((limit("other").max, limit("other").age), (500, hours(48)));
    assert_eq!((limit("mail").max, limit("mail").age), (30, hours(48)), "the stronger layer");
    assert_eq!((limit("a.b").max, limit("a.b").age), (500, hours(1)));
    assert!(archive.release_lock && config.warnings.is_empty(), "{:?}", config.warnings);
    let default = Project::new().load().jobqueue.archive;
    assert_eq!((default.limit.max, default.limit.age), (9_999, hours(90 * 24)));
    assert!(!default.release_lock && default.queues.is_empty());
}

#[rstest]
#[case("archive_max: 0", "archive_max: expected a whole number from 1 to 10000000, found 0")]
#[case("archive: {mail: {max: many}}", "archive.mail.max: expected a whole number")]
#[case("archive: {mail: {age: 3}}", "archive.mail.age: expected a duration")]
#[case("archive: {mail: 3}", "archive.mail: expected a table")]
fn a_wrong_limit_of_an_archive_is_named_with_its_place(#[case] line: &str, #[case] found: &str) {
    let error = Project::new().yaml(&format!("jobqueue: {{{line}}}")).error();
    assert!(error.contains(found), "{error}");
}

#[test]
fn an_unknown_key_of_a_queues_archive_is_warned_of() {
    let config = Project::new().yaml("jobqueue: {archive: {mail: {most: 3}}}").load();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("archive.mail.most is unknown"), "{:?}", config.warnings);
}

#[test]
fn all_layers_together_make_a_periodic_entry_and_an_empty_spec_takes_it_out() {
    let project = Project::new()
        .toml(
            "[default.jobqueue.periodic.a]\nspec = '@daily'\ntype = 'weak'\nqueue = 'low'\n\
             [default.jobqueue.periodic.b]\nspec = '@daily'\ntype = 'gone'",
        )
        .yaml("jobqueue: {periodic: {a: {type: strong, payload: {n: 1}}, b: {spec: ''}}}");

    let periodic = project.load().jobqueue.periodic;

    let strong = Periodic::raw("@daily", "strong", Some(br#"{"n":1}"#.to_vec()));
    assert_eq!(periodic, [("a".to_owned(), strong.name("a").queue("low"))].into());
}

#[test]
fn an_unknown_key_of_a_periodic_entry_is_warned_of_with_the_nearest() {
    let project =
        Project::new().yaml("jobqueue: {periodic: {a: {type: t, spec: '@daily', timezone: UTC}}}");
    let warnings = project.load().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let line = &warnings[0];
    assert!(line.contains("jobqueue.periodic.a.timezone is unknown"), "{line}");
    assert!(line.ends_with("jobqueue.periodic.a.time_zone"), "{line}");
}

#[test]
fn all_layers_together_make_a_limit_and_an_empty_queue_takes_it_out() {
    let project = Project::new()
        .toml(
            "[default.jobqueue.limits.stripe]\nqueue = 'low'\nconcurrency = 5\nrate = '100/1m'\n\
             [default.jobqueue.limits.gone]\nqueue = 'low'\nconcurrency = 5",
        )
        .yaml(
            "jobqueue: {limits: {stripe: {queue: high, concurrency: 2, types: [a, b], burst: 3}, \
             gone: {queue: ''}}}",
        );
    let rate = Rate::parse("100/1m").unwrap().burst(3);
    let expected = Limit::new("stripe").types(["a", "b"]).concurrency(2).rate(rate);

    let limits = project.load().jobqueue.limits;

    assert_eq!(limits.len(), 1);
    assert_eq!((limits[0].queue.as_str(), &limits[0].limit), ("high", &expected));
}

#[rstest]
#[case(
    "a: {concurrency: 2}",
    "jobqueue.limits.a.queue: expected the name of a queue, found nothing"
)]
#[case(
    "a: {queue: q}",
    "jobqueue.limits.a: expected a valid limit, found limit \"a\": expected concurrency, a rate"
)]
#[case("a: {queue: q, concurrency: 0}", "jobqueue.limits.a.concurrency: expected")]
#[case(
    "a: {queue: q, rate: often}",
    "jobqueue.limits.a.rate: expected a number of jobs and a time"
)]
#[case(
    "a: {queue: q, concurrency: 1, burst: 2}",
    "jobqueue.limits.a.burst: expected it beside a rate"
)]
#[case("a: {queue: q, rate: 2/1s, burst: 3}", "jobqueue.limits.a.burst: expected")]
#[case(
    "a: {queue: q, concurrency: 1, key: account}",
    "jobqueue.limits.a.key: expected payload.<path>, header.<name> or given, found \"account\""
)]
#[case("'a b': {queue: q, concurrency: 1}", "jobqueue.limits.a b: expected a valid limit")]
fn a_wrong_limit_is_named_with_its_place(#[case] line: &str, #[case] found: &str) {
    let error = Project::new().yaml(&format!("jobqueue: {{limits: {{{line}}}}}")).error();
    assert!(error.contains(found), "{error}");
}

#[test]
fn the_limit_of_the_guide_loads_without_a_warning() {
    let guide = include_str!("../../../docs/guide/limits.md");
    let entry = guide.split("```toml\n[default.jobqueue.limits.").nth(1).expect("an example");
    let entry = entry.split("```").next().unwrap();
    let config = Project::new().toml(&format!("[default.jobqueue.limits.{entry}")).load();

    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.jobqueue.limits[0].limit.concurrency, Some(2));
}

#[test]
fn the_periodic_job_of_the_guide_loads_without_a_warning() {
    let guide = include_str!("../../../docs/guide/periodic.md");
    let entry = guide.split("```toml\n[default.jobqueue.periodic.").nth(1).expect("an example");
    let entry = entry.split("```").next().unwrap();
    let config = Project::new().toml(&format!("[default.jobqueue.periodic.{entry}")).load();

    assert_eq!(config.warnings, Vec::<String>::new());
    assert!(config.jobqueue.periodic.contains_key("nightly-report"));
}

#[test]
fn single_queues_may_be_bound() {
    let config = Project::new()
        .toml(
            "
[default.jobqueue.max_waiting.mail]
jobs = 10000
[default.jobqueue.max_waiting.'a.b']
jobs = 5
when_full = 'drop_oldest'
",
        )
        .load();
    let bounds = &config.jobqueue.max_waiting;
    let of = |queue: &str| bounds.get(&rocket_jobqueue::QueueName::new(queue).unwrap()).copied();
    assert_eq!(of("mail"), Some(MaxWaiting::refuse(10_000)));
    assert_eq!(of("a.b"), Some(MaxWaiting::drop_oldest(5)));
    assert_eq!((bounds.len(), config.warnings.len()), (2, 0), "{:?}", config.warnings);
}

#[rstest]
#[case(
    "max_waiting: {mail: {jobs: 0}}",
    "max_waiting.mail.jobs: expected a whole number of 1 or more"
)]
#[case("max_waiting: {mail: {jobs: 3, when_full: wait}}", "max_waiting.mail.when_full: expected")]
#[case("max_waiting: {mail: {when_full: refuse}}", "max_waiting.mail.jobs: expected a number")]
#[case("max_waiting: {mail: 3}", "max_waiting.mail: expected a table")]
fn a_wrong_bound_of_a_queue_is_named_with_its_place(#[case] line: &str, #[case] found: &str) {
    let error = Project::new().yaml(&format!("jobqueue: {{{line}}}")).error();
    assert!(error.contains(found), "{error}");
}
