//! Our dashboard in a browser on what Go wrote and a Go worker works on: each screen reads
//! it, and what is done there is what Asynq's own inspector finds afterwards.

use serde_json::json;

use super::Cases;
use super::scene::{
    ACTIVE, ARCHIVED, COMPLETED, GROUP, MEMBERS, PENDING, RETRY, SCHEDULED, STATES, Scene,
};
use crate::bench::{Bench, Side};
use crate::browser::{Browser, PLAIN, pages_of};
use crate::rust_peer;

const AREA: &str = "Our dashboard on Asynq's data";

pub fn add(cases: &mut Cases) {
    cases.one(AREA, "every screen shows what Go wrote", screens);
    cases.one(AREA, "jobs are run, archived, deleted, moved, edited and cancelled", deeds);
}

/// A scene by Go, and a browser before our pages.
async fn open(bench: Bench) -> (Scene, Browser, String) {
    let scene = Scene::by(Side::Go, bench).await;
    let told = async || {
        let servers = scene.bench.ask(json!({"call": "Servers"})).await.unwrap();
        servers[0]["ActiveWorkers"].as_array().is_some_and(|all| all.len() == 1)
    };
    scene
        .bench
        .within(std::time::Duration::from_secs(20), "the worker tells of its job", told)
        .await;
    let (pages, _) = pages_of(rust_peer::fairing(&scene.bench.redis.addr(), None)).await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&pages).await;
    browser.hold_still().await;
    (scene, browser, pages)
}

async fn screens(bench: Bench) {
    let (_scene, browser, pages) = open(bench).await;
    browser.until("tbody th", "default").await;
    browser.shoot("go-overview").await;
    for (state, ids) in STATES {
        browser.open_page(&format!("{pages}/queues/default?state={state}")).await;
        if state == "aggregating" {
            browser.until("tbody th", GROUP).await;
            browser.click("tbody th a").await;
        }
        browser.until_count("tbody tr", 3).await;
        for id in ids {
            browser.until_count(&format!("tbody a[href$='/{id}']"), 1).await;
        }
        browser.open_page(&format!("{pages}/jobs/default/{}", ids[0])).await;
        browser.until("h1", "Job interop:work").await;
        browser.until(".facts .state", state).await;
    }
    browser.open_page(&format!("{pages}/jobs/default/{}", COMPLETED[0])).await;
    browser.until("main", "Result").await;
    browser.open_page(&format!("{pages}/jobs/default/{}", RETRY[0])).await;
    browser.until("pre.bad", "failed on purpose").await;
    browser.until(".timeline", "An attempt failed").await;
    browser.open_page(&format!("{pages}/jobs/default/{ACTIVE}")).await;
    browser.until(".facts", "Lease expires").await;
    browser.open_page(&format!("{pages}/jobs?q=archived-2")).await;
    browser.until_count("tbody tr", 1).await;
    browser.open_page(&format!("{pages}/failures")).await;
    browser.until("tbody", "failed on purpose").await;
    browser.open_page(&format!("{pages}/scheduled")).await;
    browser.until("tbody tr:nth-child(3) th", "interop:work").await;
    browser.open_page(&format!("{pages}/groups")).await;
    browser.until("tbody th", GROUP).await;
    browser.open_page(&format!("{pages}/servers")).await;
    browser.until("tbody", "1 / 1").await;
    browser.until("ul.running", ACTIVE).await;
    browser.shoot("go-workers").await;
    browser.open_page(&format!("{pages}/store")).await;
    browser.until("dl", "Redis").await;
    browser.shoot("go-store").await;
    browser.open_page(&format!("{pages}/doctor")).await;
    browser.until("main", "entries in 1 queues").await;
    browser.close().await;
}

async fn deeds(bench: Bench) {
    let (scene, browser, pages) = open(bench).await;
    let job = async |id: &str| {
        browser.open_page(&format!("{pages}/jobs/default/{id}")).await;
        browser.until("h1", "Job interop:work").await;
    };
    let press = async |verb: &str| {
        let form = format!("form[action$='/{verb}'] button");
        if browser.count(&format!("details {form}")).await > 0 {
            let summary = format!("details:has(form[action$='/{verb}']) summary");
            browser.unfold(&summary, &form).await;
        }
        browser.click(&form).await;
    };
    let reached = async |id: &str, state: &str| {
        scene.bench.reached("default", id, state).await;
    };
    job(ARCHIVED[0]).await;
    press("run").await;
    browser.until("[role=status]", "The job is moved to pending.").await;
    reached(ARCHIVED[0], "pending").await;
    job(RETRY[0]).await;
    press("archive").await;
    browser.until("[role=status]", "The job is archived.").await;
    reached(RETRY[0], "archived").await;
    job(COMPLETED[0]).await;
    press("delete").await;
    browser.until("[role=status]", "The job is deleted.").await;
    scene.bench.gone("default", COMPLETED[0]).await;
    job(PENDING[1]).await;
    browser.unfold("details:has(#when) summary", "#when").await;
    let when = browser.client.find(fantoccini::Locator::Css("#when")).await.unwrap();
    when.send_keys("tomorrow 9:00").await.unwrap();
    browser.click("form[action$='/reschedule'] button").await;
    // The moment is shown before.
    browser.until_count(".moment strong", 1).await;
    browser.click("form[action$='/reschedule'] button").await;
    browser.until("[role=status]", "The job is rescheduled.").await;
    reached(PENDING[1], "scheduled").await;
    job(SCHEDULED[0]).await;
    browser.follow("a[href$='?edit=payload']", "#payload").await;
    let payload = browser.client.find(fantoccini::Locator::Css("#payload")).await.unwrap();
    payload.clear().await.unwrap();
    payload.send_keys(r#"{"result":"edited"}"#).await.unwrap();
    browser.click("form[action$='/edit'] button").await;
    browser.until("[role=status]", "The payload is changed.").await;
    let seen = scene.bench.look(Side::Go, "default", SCHEDULED[0]).await.unwrap();
    assert_eq!(seen["hex"], crate::settings::hex(br#"{"result":"edited"}"#));

    browser.open_page(&format!("{pages}/queues/default/group?group={GROUP}")).await;
    let run = "details:has(input[value='run'])";
    browser.unfold(&format!("{run} summary"), &format!("{run} button")).await;
    browser.click(&format!("{run} button")).await;
    browser.until("[role=status]", "3 jobs moved to pending.").await;
    reached(MEMBERS[0], "pending").await;

    // The worker is Go's, and has one slot: all that is pending waits for this one.
    job(ACTIVE).await;
    press("cancel").await;
    browser.until("[role=status]", "Cancellation requested.").await;
    scene.bench.noted(MEMBERS[2], "end", 1).await;
    browser.close().await;
}
