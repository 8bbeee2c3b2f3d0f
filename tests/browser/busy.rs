//! A queue at work: the overview, selections, and actions that take long.

use super::*;

/// Fails twice, then succeeds and is kept.
#[derive(Serialize, Deserialize)]
struct Flaky;

impl Job for Flaky {
    const TYPE: &'static str = "report:build";

    fn options() -> JobOptions {
        JobOptions::new().retention(Duration::from_secs(3600))
    }

    fn retry_policy() -> Option<RetryPolicy> {
        Some(RetryPolicy::new(|_| Duration::from_millis(1)))
    }
}

async fn flaky(_job: Flaky, context: JobContext) -> Result<Value, JobError> {
    match context.attempt() {
        1 => Err(JobError::failed("the database is away\nconnection refused (os error 111)")),
        2 => Err(JobError::failed("timed out")),
        _ => Ok(json!({ "pages": 12 })),
    }
}

/// Jobs in all states and what a person has to look after.
async fn busy() -> (String, JobQueue) {
    let fairing = JobQueue::fairing()
        .memory()
        .handle(mail)
        .handle(flaky)
        .aggregate(async |_group: String, _jobs: Vec<JobRecord>| {
            Ok::<_, JobError>(Draft::raw("digest", None))
        })
        .set("jobqueue.group_grace", "600s");
    let (pages, queue) = pages_of(fairing).await;
    queue.enqueue(Flaky).id("flaky").await.unwrap();
    for n in 0..20_u64 {
        let mail = Mail { to: format!("later-{n}") };
        queue.enqueue(mail).id(format!("later-{n}")).delay(minutes(1 + 4 * n)).await.unwrap();
    }
    for n in 0..12 {
        queue.enqueue(Mail { to: format!("nobody-{n}") }).await.unwrap();
    }
    for (n, group) in ["daily", "daily", "weekly"].iter().enumerate() {
        let job = queue.enqueue_raw("news", Some(format!("{n}").into_bytes()));
        job.group(*group).await.unwrap();
    }
    // No worker serves it.
    queue.enqueue_raw("mail:go", None).queue("forgotten").await.unwrap();
    let (name, id) = (QueueName::new("default").unwrap(), JobId::new("flaky").unwrap());
    loop {
        let archived = queue.inspector().queue(&name).await.unwrap().sizes["archived"];
        let report = queue.inspector().job(&name, &id).await.unwrap().unwrap();
        if archived == 12 && report.state == JobState::Completed {
            return (pages, queue);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[rstest]
#[case::light("busy-light", PLAIN)]
#[case::dark_phone("busy-phone", Settings { phone: true, dark: true, ..PLAIN })]
#[case::japanese("busy-ja", Settings { language: "ja", ..PLAIN })]
#[tokio::test]
async fn the_overview_says_what_needs_a_look_and_leads_to_the_rest(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let (pages, _queue) = busy().await;
    let english = settings.language == "en";
    let say = |japanese: &'static str, english_words: &'static str| match english {
        true => english_words,
        false => japanese,
    };
    let browser = Browser::open(settings).await;
    browser.open_page(&pages).await;
    browser.hold_still_in(say("一時停止中", "Paused")).await;
    let needs = say("処理するワーカーがありません", "no worker serves this queue");
    browser.until("section.notice li", needs).await;
    browser.until("dl", say("次の予定", "Next due")).await;
    browser.shoot(&format!("{name}-overview")).await;

    browser.click("nav a[href$='/ui/scheduled']").await;
    browser.until("h1", say("予定", "Scheduled")).await;
    browser.until_count("figure.chart", 2).await;
    browser.until_count("tbody tr", 20).await;
    browser.until_count("tbody tr:first-child th a[href*='/default/later-0']", 1).await;
    browser.shoot(&format!("{name}-scheduled")).await;

    browser.click("nav a[href$='/ui/groups']").await;
    browser.until("h1", say("グループ", "Groups")).await;
    browser.until_count("tbody tr", 2).await;
    browser.shoot(&format!("{name}-groups")).await;
    browser.click("tbody a[href$='group?group=daily']").await;
    browser.until("h1", "daily").await;
    browser.until_count("tbody tr", 2).await;
    let archive = "details:has(input[value='archive'])";
    browser.unfold(&format!("{archive} summary"), &format!("{archive} button")).await;
    browser.click(&format!("{archive} button")).await;
    browser.until("[role=status]", "2").await;
    browser.until_count("tbody tr", 0).await;

    browser.click("nav a[href$='/ui/store']").await;
    browser.until("h1", say("ストア", "Store")).await;
    browser.click(".more a").await;
    browser.until("h1", say("データの検査", "Doctor")).await;
    browser.until("main .card", say("問題はありません", "No problems found")).await;

    browser.open_page(&format!("{pages}/jobs/default/flaky")).await;
    browser.until("h1", "report:build").await;
    browser.until_count(".timeline li", 4).await;
    browser.until(".timeline li:nth-child(1)", "the database is away").await;
    browser.until(".timeline li:nth-child(2)", "timed out").await;
    browser.see("section pre").await;
    browser.shoot(&format!("{name}-attempts")).await;
    browser.close().await;
}

#[tokio::test]
async fn jobs_are_selected_and_acted_upon_after_a_question() {
    let (pages, queue) = busy().await;
    let name = QueueName::new("default").unwrap();
    let sizes = async || queue.inspector().queue(&name).await.unwrap().sizes;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs?q=state:scheduled")).await;
    browser.hold_still().await;
    browser.until_count("tbody tr", 20).await;
    for n in [3, 7] {
        browser.click(&format!("input[value='default/later-{n}']")).await;
    }
    browser.shoot("select-jobs").await;
    browser.click("fieldset:nth-of-type(1) button[value='archive']").await;
    browser.until("main form p", "Archive 2 jobs. They do not run any more").await;
    assert_eq!(sizes().await["scheduled"], 20, "nothing has happened yet");
    browser.shoot("select-question").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status]", "2 jobs archived.").await;
    assert_eq!(browser.value("#q").await, "state:scheduled");
    assert_eq!((sizes().await["scheduled"], sizes().await["archived"]), (18, 14));

    // All that match: text too, in whatever queue.
    browser.open_page(&format!("{pages}/jobs?q=state:scheduled+later-1")).await;
    browser.until_count("tbody tr", 11).await;
    browser.click("fieldset:nth-of-type(2) button[value='delete']").await;
    browser.until("main form p", "Delete 11 jobs. They are deleted permanently").await;
    browser.fill("main form [name='confirm']", "11").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status]", "11 jobs deleted.").await;
    assert_eq!(sizes().await["scheduled"], 7);

    // Without a selection nothing happens; what cannot be acted upon is left.
    browser.open_page(&format!("{pages}/jobs?q=state:completed")).await;
    browser.click("fieldset:nth-of-type(1) button[value='delete']").await;
    browser.until("main .card", "No jobs are selected.").await;
    browser.open_page(&format!("{pages}/jobs?q=state:archived")).await;
    browser.click("fieldset:nth-of-type(2) button[value='archive']").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status].bad", "14 were not changed").await;
    browser.close().await;
}

#[tokio::test]
async fn a_job_is_duplicated_and_enqueued_with_options() {
    let (pages, queue) = busy().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs/default/later-5")).await;
    browser.hold_still().await;
    browser.click("form[action$='/duplicate'] button").await;
    browser.until("[role=status]", "This is the duplicate.").await;
    browser.see("section pre").await;
    let at = browser.client.current_url().await.unwrap().to_string();
    assert!(!at.contains("later-5"), "{at}");
    assert!(browser.see("main").await.contains("later-5"), "its payload");

    browser.open_page(&format!("{pages}/enqueue/mail:send")).await;
    for (field, text) in
        [("[name='field.to']", "them"), ("#queue", "other"), ("#unique_seconds", "60")]
    {
        let input = browser.client.find(Locator::Css(field)).await.unwrap();
        input.send_keys(text).await.unwrap();
    }
    browser.click("main form[method=post] button").await;
    browser.until("[role=status]", "The job is enqueued.").await;
    browser.until("main > div pre", "?queue=other&unique_seconds=60").await;
    let other = QueueName::new("other").unwrap();
    assert_eq!(queue.inspector().queue(&other).await.unwrap().sizes["pending"], 1);
    browser.click("main form[method=post] button").await;
    browser.until("[role=alert]", "with this unique lock already").await;

    browser.open_page(&format!("{pages}/queues/other")).await;
    let delete = "form[action$='/delete'] button";
    browser.unfold(&format!("details:has({delete}) summary"), delete).await;
    browser.until("details[open] p", "Deletes the queue and its jobs (1)").await;
    browser.fill("form[action$='/delete'] [name='confirm']", "other").await;
    browser.click(delete).await;
    browser.until("[role=status]", "The queue is deleted.").await;
    assert!(queue.inspector().queue(&other).await.unwrap_err().is_not_found());
    browser.close().await;
}

#[rstest]
#[case::light("long-light", PLAIN)]
#[case::without_scripts("long-without-scripts", Settings { scripts: false, ..PLAIN })]
#[tokio::test]
async fn an_action_that_takes_long_shows_how_far_it_is(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    const JOBS: u64 = 200_000;
    let redis = support::RedisServer::start::<&str>(&[]);
    let fairing = JobQueue::fairing()
        .set("databases.jobqueue.url", format!("redis://{}", redis.addr()))
        .set("jobqueue.worker", false);
    let (pages, queue) = pages_of(fairing).await;
    for _ in 0..JOBS / 10_000 {
        let drafts = (0..10_000).map(|_| Draft::raw("mail", None).delay(minutes(60)));
        for stored in queue.enqueue_all(drafts).await {
            stored.unwrap();
        }
    }
    let browser = Browser::open(settings).await;
    if settings.scripts {
        browser.open_page(&format!("{pages}/queues/default?state=scheduled")).await;
        browser.hold_still().await;
        let delete = "details:has(input[value='delete'])";
        browser.unfold(&format!("{delete} summary"), &format!("{delete} button")).await;
        browser.until(&format!("{delete} p"), "All 200000 scheduled jobs.").await;
        browser.fill(&format!("{delete} [name='confirm']"), "default").await;
        browser.click(&format!("{delete} button")).await;
        browser.until("h1", "Delete jobs: default").await;
        browser.shoot(name).await;
        browser.until("[role=status]", "200000 jobs deleted.").await;
        browser.close().await;
        return;
    }
    // What a permitted click does: a driver's clicks hang without scripts.
    let form = [("state", "scheduled"), ("action", "delete"), ("confirm", "default")];
    let answer = reqwest::Client::new()
        .post(format!("{pages}/queues/default/actions"))
        .header("Origin", pages.split("/api").next().unwrap())
        .header("Accept-Language", "en")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form.map(|(key, value)| format!("{key}={value}")).join("&"));
    let mut answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src"));
    let (mut text, mut parts) = (String::new(), 0);
    while let Some(part) = answer.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&part));
        parts += 1;
    }
    assert!(parts > 2, "it comes bit by bit: {parts}");
    assert!(text.contains("<progress max=\"200000\"") && text.ends_with("</html>"), "{text}");
    let file = tempfile::NamedTempFile::with_suffix(".html").unwrap();
    std::fs::write(file.path(), text.replace("http-equiv=\"refresh\"", "")).unwrap();
    browser.open_page(&format!("file://{}", file.path().display())).await;
    browser.until("h1", "Delete jobs: default").await;
    browser.until(".steps > :last-child", "200000 / 200000 jobs deleted.").await;
    browser.shoot(name).await;
    let name = QueueName::new("default").unwrap();
    assert_eq!(queue.inspector().queue(&name).await.unwrap().size, 0);
    browser.close().await;
}
