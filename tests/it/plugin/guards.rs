//! The guards that an application names for the pages and the reference route, and what the launch
//! says of those that are missing.

use super::*;

struct Nobody;

#[rocket::async_trait]
impl<'r> rocket::request::FromRequest<'r> for Nobody {
    type Error = ();

    async fn from_request(
        request: &'r rocket::Request<'_>,
    ) -> rocket::request::Outcome<Self, Self::Error> {
        match request.headers().get_one("X-Key") {
            Some("open") => rocket::request::Outcome::Success(Nobody),
            _ => rocket::request::Outcome::Error((rocket::http::Status::Unauthorized, ())),
        }
    }
}

#[cfg(feature = "metrics")]
#[rocket::async_test]
async fn pages_for_operators_ask_the_applications_own_guard() {
    let (tell, mut told) = told();
    let client = client(app(queue().admin_guard::<Nobody>(), tell)).await;
    handle(&client).enqueue(work("counted")).await.unwrap();
    told.recv().await.unwrap();
    let path = "/api/dm-jobqueue/metrics";
    assert_eq!(client.get(path).dispatch().await.status().code, 401);
    let header = rocket::http::Header::new("X-Key", "open");
    let text = until(|| async {
        let answer = client.get(path).header(header.clone()).dispatch().await;
        assert_eq!(answer.status().code, 200);
        let text = answer.into_string().await.unwrap();
        text.contains(r#"asynq_tasks_processed_total{queue="default"} 1"#).then_some(text)
    })
    .await;
    assert!(text.contains("asynq_queue_size"), "{text}");
    client.terminate().await;
}

#[rocket::async_test]
async fn without_a_guard_nothing_is_open_under_any_profile() {
    use rocket::http::{ContentType, Method};
    let routes = [
        (Method::Get, "/queues"),
        (Method::Get, "/ui"),
        (Method::Get, "/metrics"),
        (Method::Delete, "/queues/default?force=true"),
        (Method::Post, "/queues/default/pause"),
        (Method::Get, "/ui?token="),
        (Method::Get, "/ui?token=0"),
    ];
    for (profile, expected) in [
        ("debug", 401),
        ("release", 403),
        ("production", 403),
        ("staging", 403),
        ("default", 403),
        ("global", 403),
    ] {
        let (tell, _told) = told();
        let fairing = queue().set("jobqueue.allow_memory_in_release", true);
        let figment = rocket::Config::figment().merge(("log_level", "off")).select(profile);
        let client = client(rocket::custom(figment).manage(tell).attach(fairing)).await;
        for (method, path) in routes {
            let path = format!("/api/dm-jobqueue{path}");
            let answer = client.req(method, &path).header(ContentType::JSON).dispatch().await;
            assert_eq!(answer.status().code, expected, "{profile} {method} {path}");
        }
        client.terminate().await;
    }
}

#[rocket::async_test]
async fn outside_debug_the_launch_says_that_the_reference_route_is_public() {
    // In a process of its own, which is this very test once more.
    if let Some(case) = std::env::var_os(CHILD) {
        let (profile, switch) = case.to_str().unwrap().split_once(' ').unwrap();
        let (tell, _told) = told();
        let mut fairing = queue().set("jobqueue.allow_memory_in_release", true);
        fairing = match switch {
            "off" => fairing.set("jobqueue.register_route", false),
            "guarded" => fairing.register_guard::<Nobody>(),
            _ => fairing,
        };
        let figment = rocket::Config::figment().merge(("log_level", "off")).select(profile);
        let rocket = rocket::custom(figment).manage(tell).attach(fairing);
        std::process::exit(i32::from(rocket.ignite().await.is_err()));
    }
    let test = "outside_debug_the_launch_says_that_the_reference_route_is_public";
    for (case, says) in [
        ("debug on", false),
        ("release on", true),
        ("staging on", true),
        ("production off", false),
        ("release guarded", false),
    ] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("plugin::guards::{test}"), "--nocapture"])
            .env(CHILD, case)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr).into_owned();
        assert!(child.status.success(), "{case}: {said}");
        let lines: Vec<_> = said.lines().filter(|line| line.contains("register")).collect();
        assert_eq!(lines.len(), usize::from(says), "{case}: {said}");
        if says {
            assert_says(lines[0], &["WARN", "jobqueue.register_route = false", "everybody"]);
        }
    }
}

#[rocket::async_test]
async fn the_memory_store_is_refused_under_any_profile_but_debug() {
    let (tell, _told) = told();
    let figment = rocket::Config::figment().merge(("log_level", "off")).select("production");
    let rocket = rocket::custom(figment).manage(tell).attach(queue());
    let line =
        refused("guards::the_memory_store_is_refused_under_any_profile_but_debug", rocket).await;
    assert_says(&line, &["profile \"production\"", "found memory", "allow_memory_in_release"]);
}

#[rocket::async_test]
async fn the_reference_route_asks_the_register_guard_and_can_be_switched_off() {
    async fn post(client: &Client, key: Option<&'static str>) -> u16 {
        let path = "/api/dm-jobqueue/register";
        let mut request = client.post(path).header(rocket::http::ContentType::JSON).body("{}");
        if let Some(key) = key {
            request = request.header(rocket::http::Header::new("X-Key", key));
        }
        request.dispatch().await.status().code
    }
    let (tell, _told) = told();
    let guarded = client(app(queue().register_guard::<Nobody>(), tell.clone())).await;
    assert_eq!(post(&guarded, None).await, 401);
    assert_eq!(post(&guarded, Some("open")).await, 201);
    guarded.terminate().await;
    let off = client(app(queue().set("jobqueue.register_route", false), tell)).await;
    assert_eq!(post(&off, None).await, 404);
    off.terminate().await;
}
