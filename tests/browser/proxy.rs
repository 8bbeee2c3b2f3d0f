//! Behind reverse proxies, and what pages of other origins may do: nothing.

use super::*;

/// The page at the proxy, for a queue with a job.
async fn behind(front: Front, fairing: JobQueueFairing) -> String {
    let (pages, queue) = pages_of(fairing).await;
    queue.enqueue_raw("mail", None).await.unwrap();
    let application = pages.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let front_at = front.before(application.parse().unwrap()).await;
    format!("http://{front_at}{}/api/dm-jobqueue/ui", front.prefix)
}

#[tokio::test]
async fn behind_a_reverse_proxy_links_stay_and_buttons_work_or_the_page_says_what_to_set() {
    let still = || JobQueue::fairing().memory().set("jobqueue.worker", false);
    let trusting = || still().set("jobqueue.trusted_proxies", ["127.0.0.1"]);
    let browser = Browser::open(PLAIN).await;

    let pages = behind(Front { prefix: "/ops", tells: true }, trusting()).await;
    browser.open_page(&pages).await;
    browser.hold_still().await;
    let links = browser.client.find_all(Locator::Css("a")).await.unwrap();
    assert!(links.len() > 10);
    for link in links {
        let to = link.prop("href").await.unwrap().unwrap();
        assert!(to.starts_with(&pages) || to.contains("/ops/api/dm-jobqueue/"), "{to}");
    }
    browser.click("tbody th a").await;
    browser.click("form[action$='/pause'] button").await;
    browser.until("[role=status]", "The queue is paused.").await;
    let docs = pages.replace("/ui", "/docs/index.html");
    browser.open_page(&docs).await;
    browser.until("#swagger-ui", "/queues/{name}/pause").await;

    let pages = behind(Front { prefix: "/ops", tells: true }, still()).await;
    browser.open_page(&pages).await;
    browser.until("[role=status]", "add 127.0.0.1 to jobqueue.trusted_proxies").await;

    let pages = behind(Front { prefix: "", tells: false }, trusting()).await;
    browser.open_page(&format!("{pages}/queues/default")).await;
    browser.hold_still().await;
    browser.click("form[action$='/pause'] button").await;
    browser.until("[role=alert]", "let it keep the header Host").await;
    browser.shoot("proxy-refusal").await;
    browser.close().await;
}

#[cfg(feature = "openapi")]
#[tokio::test]
async fn the_documentation_breaks_no_rule_of_its_own_policy() {
    let pages = pages().await;
    let browser = Browser::open(PLAIN).await;
    browser.open_page(&pages.replace("/ui", "/docs")).await;
    browser.until("#swagger-ui", "/register").await;
    browser.click("#operations-jobqueue-demo-register-demo-job button").await;
    browser.until("#operations-jobqueue-demo-register-demo-job", "delay_seconds").await;
    browser.click("#operations-jobqueue-demo-register-demo-job .try-out button").await;
    browser.click("#operations-jobqueue-demo-register-demo-job .execute").await;
    browser.until("#operations-jobqueue-demo-register-demo-job .live-responses-table", "201").await;
    browser.shoot("docs").await;
    assert_eq!(browser.refusals().await, Vec::<String>::new());
    // Such a thing would be told.
    let styled = "document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\">')";
    browser.client.execute(styled, Vec::new()).await.unwrap();
    let refusals = browser.refusals().await;
    assert!(refusals[0].starts_with("style-src"), "{refusals:?}");
    browser.close().await;
}

/// What a page of another origin may try with the credentials of its reader.
const ATTACK: &str = r#"
    const [base, done] = arguments;
    const tries = [];
    const ask = (method, path, options) =>
        tries.push(fetch(base + path, { method, credentials: 'include', ...options }).catch(() => 0));
    for (const mode of ['no-cors', 'cors']) {
        ask('POST', '/queues/default/pause', { mode });
        ask('POST', '/queues/default/pause', { mode, headers: { 'Content-Type': 'text/plain' }, body: '{}' });
        ask('POST', '/queues/default/pause', { mode, headers: { Authorization: 'Bearer x' } });
        ask('POST', '/register', { mode, headers: { 'Content-Type': 'text/plain' }, body: '{}' });
        ask('POST', '/register', { mode, headers: { 'Content-Type': 'application/json' }, body: '{}' });
        ask('POST', '/ui/register', { mode, body: new URLSearchParams({ message: 'x' }) });
        ask('POST', '/ui/queues/default/pause', { mode, body: new URLSearchParams() });
    }
    ask('DELETE', '/queues/default?force=true', {});
    for (const type of ['application/json', 'text/plain']) {
        navigator.sendBeacon(base + '/register', new Blob(['{}'], { type }));
        navigator.sendBeacon(base + '/queues/default/pause', new Blob(['{}'], { type }));
    }
    const sent = (path, enctype) => new Promise((resolve) => {
        const frame = document.createElement('iframe');
        frame.name = `f${path}${enctype}`;
        const form = document.createElement('form');
        Object.assign(form, { method: 'post', action: base + path, enctype, target: frame.name });
        const input = document.createElement('input');
        Object.assign(input, { name: '{"message":"x', value: '"}' });
        form.append(input);
        document.body.append(frame, form);
        frame.addEventListener('load', () => setTimeout(resolve, 200), { once: true });
        form.submit();
        setTimeout(resolve, 1500);
    });
    for (const path of ['/register', '/ui/register', '/queues/default/pause', '/ui/queues/default/pause'])
        for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'])
            tries.push(sent(path, enctype));
    Promise.all(tries).then((all) => setTimeout(() => done(all.length), 500));
"#;

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_whatever_it_sends() {
    let fairing = JobQueue::fairing()
        .memory()
        .set("jobqueue.worker", false)
        .set("jobqueue.trusted_proxies", ["127.0.0.1"]);
    let (pages, queue) = pages_of(fairing).await;
    let elsewhere = self::pages().await;
    queue.enqueue_raw("mail", None).await.unwrap();
    let direct = pages.strip_suffix("/ui").unwrap().to_owned();
    let application = pages.strip_prefix("http://").unwrap().split('/').next().unwrap();
    // Through it, the browser's own judgement does not arrive, as on plain http.
    let front = Front { prefix: "", tells: true }.before(application.parse().unwrap()).await;
    let browser = Browser::open(PLAIN).await;
    // A plain answer of another application: a page there with no rules of its own.
    let front = format!("http://{front}/api/dm-jobqueue");
    for (host, base) in [("127.0.0.1", &direct), ("localhost", &direct), ("localhost", &front)] {
        let page = elsewhere.replace("127.0.0.1", host).replace("/ui", "/health");
        browser.open_page(&page).await;
        let tries = browser.client.execute_async(ATTACK, vec![json!(base)]).await.unwrap();
        assert_eq!(tries, json!(27), "from {host} to {base}");
        let name = QueueName::new("default").unwrap();
        let found = queue.inspector().queue(&name).await.unwrap();
        assert!(!found.paused && found.size == 1, "from {host} to {base}: {found:?}");
    }
    browser.close().await;
}
