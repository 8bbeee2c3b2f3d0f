//! The desk: keys, selection, columns, counts that narrow a search, theme, language and times.

use super::*;

/// Presses keys where the focus is; a key that opens a page answers late.
async fn press(browser: &Browser, keys: &str) {
    for key in keys.chars() {
        browser.keys(&key.to_string()).await;
    }
}

async fn focused(browser: &Browser) -> String {
    let script = "return document.activeElement.id || document.activeElement.textContent";
    let found = browser.client.execute(script, Vec::new()).await.unwrap();
    found.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_list_is_worked_by_keys_alone() {
    let (pages, queue) = operated().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs?q=state:archived")).await;
    browser.hold_still().await;
    browser.until_count("tbody tr", 4).await;

    press(&browser, "/").await;
    assert_eq!(focused(&browser).await, "q");
    // In a field every key is text.
    press(&browser, "jx?").await;
    assert_eq!(browser.value("#q").await, "jx?");
    assert_eq!(browser.count("dialog[open]").await, 0);
    browser.keys(&Key::Escape.to_string()).await;

    press(&browser, "jjxkx").await;
    browser.until("[data-selected]:not(dialog)", "2 selected").await;
    assert_eq!(focused(&browser).await, "mail:send");
    browser.until_count("tbody tr:has(:checked)", 2).await;
    press(&browser, "x").await;
    browser.until("[data-selected]:not(dialog)", "1 selected").await;

    press(&browser, "?").await;
    browser.until("dialog[open] h2", "Keyboard").await;
    browser.shoot("desk-keys").await;
    // Whoever does not want them switches them off, but help stays.
    browser.click("#keys-on").await;
    browser.keys(&Key::Escape.to_string()).await;
    browser.until_count("dialog[open]", 0).await;
    browser.client.find(Locator::Css("tbody th a")).await.unwrap().send_keys("j").await.unwrap();
    browser.until_count("tbody tr:has(:checked)", 1).await;
    press(&browser, "?").await;
    browser.until_count("dialog[open]", 1).await;
    browser.click("#keys-on").await;
    browser.keys(&Key::Escape.to_string()).await;

    // All of the page, and away with them.
    browser.click("[data-all] input").await;
    browser.until("[data-selected]:not(dialog)", "4 selected").await;
    browser.click("fieldset:nth-of-type(1) button[value='delete']").await;
    browser.until("main form p", "Delete 4 jobs. They are deleted permanently").await;
    browser.click("main form:not(.find) button").await;
    browser.until("[role=status]", "4 jobs deleted.").await;
    let name = QueueName::new("default").unwrap();
    assert_eq!(queue.inspector().queue(&name).await.unwrap().sizes["archived"], 0);
    browser.close().await;
}

#[tokio::test]
async fn counts_narrow_a_search_and_columns_stay_as_they_were_chosen() {
    let (pages, _queue) = operated().await;
    let browser = Browser::open(PLAIN).await;
    browser.client.set_window_size(1440, 900).await.unwrap();
    browser.open_page(&format!("{pages}/jobs")).await;
    browser.hold_still().await;
    browser.until_count("tbody tr", 44).await;
    // What failed last comes before what is due.
    browser.until("tbody tr:first-child .state", "archived").await;
    browser.until(".facets section:nth-of-type(1) li:nth-of-type(2) .count", "40").await;
    browser.click(".facets a[href*='archived']").await;
    browser.until_count("tbody tr", 4).await;
    browser.until(".facets", "no such address").await;
    browser.click(".facets section:nth-of-type(4) a").await;
    assert_eq!(browser.value("#q").await, r#"state:archived error:"no such address:""#);
    browser.until_count("tbody tr", 4).await;
    // The same count again widens it.
    browser.click(".facets section:nth-of-type(1) a[aria-current]").await;
    browser.until_count(".facets section:nth-of-type(1) li", 1).await;
    browser.click(".pick[href*='15m']").await;
    browser.until(".pick[aria-current]", "Last 15m").await;
    browser.until_count("tbody tr", 4).await;
    browser.open_page(&format!("{pages}/jobs?q=state:archived+until:15m")).await;
    browser.until("main .card.empty", "No jobs").await;

    // An id is short to the eye, and whole when it is copied.
    browser.open_page(&format!("{pages}/jobs?q=state:archived")).await;
    let copied = "const id = document.querySelector('code.id');
        getSelection().selectAllChildren(id);
        return [getSelection().toString(), id.title, id.offsetWidth < 100]";
    let copied = browser.client.execute(copied, Vec::new()).await.unwrap();
    assert!(copied[0] == copied[1] && copied[2] == true, "{copied}");

    browser.unfold(".columns summary", ".columns label").await;
    browser.click(".columns label:first-of-type input").await;
    browser.until_count("th[data-col=payload]", 1).await;
    let hidden = "return getComputedStyle(document.querySelector('[data-col=payload]')).display";
    let display = browser.client.execute(hidden, Vec::new()).await.unwrap();
    assert_eq!(display, "none");
    browser.client.refresh().await.unwrap();
    browser.until_count("tbody tr", 4).await;
    let display = browser.client.execute(hidden, Vec::new()).await.unwrap();
    assert_eq!(display, "none");
    browser.close().await;
}

#[rstest]
#[case::with_scripts(true)]
#[case::without_scripts(false)]
#[tokio::test]
async fn theme_language_and_zone_are_chosen_on_the_page(#[case] scripts: bool) {
    let (pages, _queue) = operated().await;
    // The form as a click would send it: a driver's clicks hang without scripts.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().unwrap();
    let origin = pages.split("/api").next().unwrap().to_owned();
    let send = async |body: &'static str| {
        let form = client
            .post(format!("{pages}/display"))
            .header("Origin", &origin)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body);
        form.send().await.unwrap()
    };
    let browser = Browser::open(Settings { scripts, ..PLAIN }).await;
    browser.open_page(&format!("{pages}/jobs?q=state:archived&done=run&count=1")).await;
    browser.until_count("html:not([data-theme])", 1).await;
    if scripts {
        browser.hold_still().await;
        browser.unfold(".foot summary", "#theme").await;
        browser.click("#theme option[value=dark]").await;
        let zone = browser.client.find(Locator::Css("#zone")).await.unwrap();
        zone.clear().await.unwrap();
        zone.send_keys("asia/tokyo").await.unwrap();
        browser.click("#language option[value=ja]").await;
        browser.click("#times option[value=absolute]").await;
        browser.click(".foot button").await;
    } else {
        let answer =
            send("theme=dark&language=ja&zone=asia/tokyo&times=absolute&back=/ui/jobs").await;
        assert_eq!(answer.status(), 303);
        let to = answer.headers()["location"].to_str().unwrap();
        assert!(pages.ends_with(to.strip_suffix("/jobs").unwrap()), "{to}");
        for cookie in answer.headers().get_all("set-cookie") {
            let text = cookie.to_str().unwrap().to_owned();
            let mut cookie = fantoccini::cookies::Cookie::parse(text).unwrap();
            cookie.set_domain("127.0.0.1");
            browser.client.add_cookie(cookie).await.unwrap();
        }
        browser.open_page(&format!("{pages}/jobs?q=state:archived")).await;
    }
    browser.until("html[lang=ja] h1", "ジョブ検索").await;
    browser.until_count("html[data-theme=dark]", 1).await;
    browser.until_count(".notice", 0).await;
    if scripts {
        assert_eq!(browser.value("#q").await, "state:archived");
        let paper = "return getComputedStyle(document.body).backgroundColor";
        let paper = browser.client.execute(paper, Vec::new()).await.unwrap();
        assert_eq!(paper, "rgb(20, 22, 26)");
    }
    browser.until("tbody time", "JST").await;
    browser.close().await;

    let answer = send("zone=Asia/Tokio&theme=light").await;
    assert_eq!(answer.status(), 422);
    assert!(answer.headers().get("set-cookie").is_none());
    assert!(answer.text().await.unwrap().contains("the nearest is Asia/Tokyo"));
    let answer = send("theme=light&back=//evil.example").await;
    assert!(answer.headers()["location"].to_str().unwrap().ends_with("/ui"));
}

#[tokio::test]
async fn a_job_is_rescheduled_in_words_and_the_moment_is_shown_before() {
    let (pages, queue) = operated().await;
    let name = QueueName::new("default").unwrap();
    let found = queue.inspector().jobs(&name, JobState::Scheduled, &Page::default()).await.unwrap();
    let id = found.rows[0].id().clone();
    let due = async || queue.inspector().job(&name, &id).await.unwrap().unwrap().due.unwrap();
    let before = due().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&format!("{pages}/jobs/default/{id}")).await;
    browser.hold_still().await;
    for (words, seen) in [("soon", "[role=alert]"), ("tomorrow 9:00", ".moment strong")] {
        browser.open_page(&format!("{pages}/jobs/default/{id}")).await;
        browser.unfold("details:has(#when) summary", "#when").await;
        browser.client.find(Locator::Css("#when")).await.unwrap().send_keys(words).await.unwrap();
        browser.click("form[action$='/reschedule'] button").await;
        let told = if words == "soon" { "found \"soon\"" } else { " 09:00:00 " };
        browser.until(seen, told).await;
        assert_eq!(due().await, before, "nothing has happened yet");
    }
    browser.shoot("desk-reschedule").await;
    browser.click("form[action$='/reschedule'] button").await;
    browser.until("[role=status]", "The job is rescheduled.").await;
    assert_ne!(due().await, before);
    browser.close().await;
}

/// The pages that are looked at; of the jobs an archived one.
async fn looked_at(queue: &JobQueue) -> Vec<(&'static str, String)> {
    let name = QueueName::new("default").unwrap();
    let found = queue.inspector().jobs(&name, JobState::Archived, &Page::default()).await.unwrap();
    let job = format!("/jobs/default/{}", found.rows[0].id());
    let paths = [
        ("overview", ""),
        ("jobs", "/jobs"),
        ("failures", "/failures"),
        ("queue", "/queues/default"),
        ("job", job.as_str()),
        ("scheduled", "/scheduled"),
        ("periodic", "/periodic"),
        ("groups", "/groups"),
        ("workers", "/servers"),
        ("enqueue", "/enqueue/mail:send"),
        ("store", "/store"),
        ("doctor", "/doctor"),
    ];
    paths.map(|(page, path)| (page, path.to_owned())).to_vec()
}

/// The window that a person has.
async fn open(width: u32, height: u32, settings: Settings) -> Browser {
    let browser = Browser::open(settings).await;
    if !settings.phone {
        browser.client.set_window_size(width, height).await.unwrap();
    }
    browser
}

/// The pages at three widths, in both themes and languages, as artefacts to look at; none is
/// wider than its window.
#[rstest]
#[case::wide(1440, 900, PLAIN)]
#[case::dark(1440, 900, Settings { dark: true, ..PLAIN })]
#[case::laptop(1024, 768, Settings { language: "ja", ..PLAIN })]
#[case::phone(390, 844, Settings { phone: true, ..PLAIN })]
#[case::dark_phone(390, 844, Settings { phone: true, dark: true, language: "ja", ..PLAIN })]
#[tokio::test]
async fn every_page_fits_its_window(
    #[case] width: u32,
    #[case] height: u32,
    #[case] settings: Settings,
) {
    let (pages, queue) = operated().await;
    let browser = open(width, height, settings).await;
    for (page, path) in looked_at(&queue).await {
        browser.open_page(&format!("{pages}{path}")).await;
        browser.see("h1").await;
        let script = "return [document.documentElement.scrollWidth, innerWidth]";
        let found = browser.client.execute(script, Vec::new()).await.unwrap();
        assert!(found[0].as_u64() <= found[1].as_u64(), "{page} at {width}: {found}");
        let theme = if settings.dark { "dark" } else { "light" };
        browser.shoot(&format!("desk-{page}-{width}-{theme}-{}", settings.language)).await;
    }
    browser.close().await;
}

/// By `scripts/check-pages.sh`, which has axe.
#[rstest]
#[case::wide(1440, 900, PLAIN)]
#[case::dark(1024, 768, Settings { dark: true, language: "ja", ..PLAIN })]
#[case::phone(390, 844, Settings { phone: true, ..PLAIN })]
#[case::dark_phone(390, 844, Settings { phone: true, dark: true, ..PLAIN })]
#[tokio::test]
#[ignore = "needs axe: scripts/check-pages.sh"]
async fn axe_finds_nothing(#[case] width: u32, #[case] height: u32, #[case] settings: Settings) {
    let axe = std::fs::read_to_string(std::env::var("AXE").expect("AXE names axe.min.js")).unwrap();
    let (pages, queue) = operated().await;
    let browser = open(width, height, settings).await;
    let mut faults = Vec::new();
    for (page, path) in looked_at(&queue).await {
        browser.open_page(&format!("{pages}{path}")).await;
        browser.see("h1").await;
        browser.client.execute(&axe, Vec::new()).await.unwrap();
        let run = "const done = arguments[0]; axe.run().then(({ violations }) => done(
            violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`))));";
        let found = browser.client.execute_async(run, Vec::new()).await.unwrap();
        let found: Vec<String> = serde_json::from_value(found).unwrap();
        faults.extend(found.into_iter().map(|fault| format!("{page}: {fault}")));
    }
    browser.close().await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
