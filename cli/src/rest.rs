//! A store behind an application's REST interface: the way to a store inside a process, and for those
//! who have a token but not the store's password.
//!
//! The token is sent as `Authorization: Bearer …`. Redirects are not followed: one leads to a login
//! page, which a terminal cannot use.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::failure::{Exit, Failure, Outcome};
use crate::store::{JobPlace, NewJob, Store, Then, Verb, WorkerChange, list, text};

/// Where an application mounts its routes unless it says otherwise.
const DEFAULT_BASE: &str = "/api/dm-jobqueue";

/// A page has at most 8 MiB of jobs; escaped as JSON they may be six times as long.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// For a connection. An application that is there answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For an answer. The doctor and the removal of a queue read every key.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const LONG_TIMEOUT: Duration = Duration::from_secs(1800);

/// Everything between a segment's slashes that is sent as it is.
fn segment(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// A query of these parameters, without those that are absent.
fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// The routes of one application.
#[derive(Clone)]
pub(crate) struct Rest {
    agent: ureq::Agent,
    /// With the base, without a slash at the end.
    url: String,
    token: Option<String>,
}

impl Rest {
    /// The application at this URL: `https://app.example`, or with its base.
    ///
    /// # Errors
    /// It is no such URL, or has credentials.
    pub fn new(url: &str, token: Option<String>) -> Outcome<Self> {
        let wrong = |found: &str| {
            Failure::usage(format!("--api: expected http://host or https://host, found {found}"))
        };
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let rest = rest.ok_or_else(|| wrong("another kind of URL"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() || url.contains(['?', '#']) || url.contains(char::is_whitespace) {
            return Err(wrong("one without a host, or with more than a path"));
        }
        if host.contains('@') {
            return Err(wrong(
                "one with credentials; give a token in JOBQUEUE_TOKEN or --token-file",
            ));
        }
        let path = match path.trim_end_matches('/') {
            "" => DEFAULT_BASE,
            path => path,
        };
        let origin = &url[..url.len() - rest.len() + host.len()];
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("jobqueue/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(authorities(url)).build());
        Ok(Self { agent: config.build().into(), url: format!("{origin}{path}"), token })
    }

    async fn get(&self, path: String) -> Outcome<Value> {
        self.ask(Method::GET, path, None, ANSWER_TIMEOUT).await
    }

    async fn post(&self, path: String, body: Value) -> Outcome<Value> {
        self.ask(Method::POST, path, Some(body.to_string().into_bytes()), ANSWER_TIMEOUT).await
    }

    /// One request, on a thread that may block.
    async fn ask(
        &self,
        method: Method,
        path: String,
        body: Option<Vec<u8>>,
        timeout: Duration,
    ) -> Outcome<Value> {
        let this = self.clone();
        let answer = tokio::task::spawn_blocking(move || this.send(method, &path, body, timeout));
        answer.await.unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "the request was dropped")))
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        timeout: Duration,
    ) -> Outcome<Value> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request = request.header("Accept", "application/json");
        // Not a form of a foreign page: the application's guard asks for it.
        request = request.header("Content-Type", "application/json");
        let request = request.body(body.unwrap_or_default());
        let request = request.map_err(|_| {
            Failure::usage("the URL or the token has characters that HTTP does not permit")
        })?;
        let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
        let response = match request.body().is_empty() {
            true => self.agent.run(request.map(|_| ())),
            false => self.agent.run(request),
        };
        let mut response = response.map_err(|error| self.lost(&error))?;
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let bytes = bytes.map_err(|error| self.lost(&error))?;
        match (status, serde_json::from_slice::<Value>(&bytes)) {
            (204, _) => Ok(Value::Null),
            (200..300, Ok(answer)) => Ok(answer),
            (200..300, Err(_)) => Err(Failure::new(
                Exit::Failed,
                format!("{}: expected the JSON of a job queue, found something else", self.url),
            )),
            (status, problem) => Err(self.refusal(status, &problem.unwrap_or_default())),
        }
    }

    /// No answer.
    fn lost(&self, error: &ureq::Error) -> Failure {
        let why = match error {
            ureq::Error::HostNotFound => "the host is not known".to_owned(),
            ureq::Error::ConnectionFailed => "the connection failed".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Io(error) => error.kind().to_string(),
            ureq::Error::BodyExceedsLimit(most) => format!("an answer of more than {most} bytes"),
            other => other.to_string(),
        };
        Failure::new(Exit::Unreachable, format!("{}: {why}", self.url))
    }

    /// An answer that is an error.
    fn refusal(&self, status: u16, problem: &Value) -> Failure {
        let detail = text(&problem["detail"]);
        let token = match &self.token {
            Some(_) => "the application does not let this token in",
            None => "the application asks for a token: JOBQUEUE_TOKEN or --token-file",
        };
        match (status, detail) {
            (401, _) | (300..400, _) => {
                Failure::new(Exit::Refused, format!("{}: {token}", self.url))
            }
            (403, detail) => {
                let detail = if detail.is_empty() { "forbidden" } else { detail };
                Failure::new(Exit::Refused, format!("{}: {detail}", self.url))
            }
            (404, "") => Failure::new(
                Exit::NotFound,
                format!("{}: expected the base of a job queue, found none", self.url),
            ),
            (404, detail) => Failure::new(Exit::NotFound, detail),
            (409, detail) => Failure::new(Exit::Refused, detail),
            (400 | 413 | 415 | 422, detail) => Failure::usage(detail),
            (429 | 502..=504, detail) => {
                let detail =
                    if detail.is_empty() { "too busy, or its store is away" } else { detail };
                Failure::new(Exit::Unreachable, format!("{}: {detail}", self.url))
            }
            (status, detail) => {
                Failure::new(Exit::Failed, format!("{}: status {status} {detail}", self.url))
            }
        }
    }

    fn job_path(place: &JobPlace) -> String {
        format!("/jobs/{}/{}", segment(&place.queue), segment(&place.id))
    }
}

/// The authorities of the system, or Mozilla's if it has none.
fn authorities(url: &str) -> RootCerts {
    if !url.starts_with("https:") {
        return RootCerts::WebPki;
    }
    let found = rustls_native_certs::load_native_certs().certs;
    match found.is_empty() {
        true => RootCerts::WebPki,
        false => found.iter().map(|one| Certificate::from_der(one).to_owned()).into(),
    }
}

#[async_trait]
impl Store for Rest {
    fn describe(&self) -> String {
        self.url.clone()
    }

    async fn queues(&self) -> Outcome<Value> {
        let (mut queues, mut after) = (Vec::new(), None);
        loop {
            let page = self.get(format!("/queues{}", query(&[("after", after.take())]))).await?;
            queues.extend(list(&page["queues"]).iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(json!({ "queues": queues })),
            }
        }
    }

    async fn queue(&self, queue: &str) -> Outcome<Value> {
        self.get(format!("/queues/{}", segment(queue))).await
    }

    async fn history(&self, queue: &str, days: u32) -> Outcome<Value> {
        self.get(format!("/queues/{}/history?days={days}", segment(queue))).await
    }

    async fn minutes(&self, queue: &str) -> Outcome<Value> {
        self.get(format!("/queues/{}/minutes", segment(queue))).await
    }

    async fn memory(&self, queue: &str) -> Outcome<Value> {
        self.get(format!("/queues/{}/memory", segment(queue))).await
    }

    async fn groups(&self, queue: &str, cursor: Option<&str>) -> Outcome<Value> {
        let query =
            query(&[("size", Some("100".to_owned())), ("cursor", cursor.map(str::to_owned))]);
        self.get(format!("/queues/{}/groups{query}", segment(queue))).await
    }

    async fn pause(&self, queue: &str, pause: bool) -> Outcome {
        let verb = if pause { "pause" } else { "resume" };
        self.post(format!("/queues/{}/{verb}", segment(queue)), json!({})).await.map(|_| ())
    }

    async fn delete_queue(&self, queue: &str, force: bool) -> Outcome {
        let path = format!("/queues/{}?force={force}", segment(queue));
        self.ask(Method::DELETE, path, None, LONG_TIMEOUT).await.map(|_| ())
    }

    async fn search(&self, terms: &str, size: u32, cursor: Option<&str>) -> Outcome<Value> {
        let query = query(&[
            ("q", Some(terms.to_owned())),
            ("size", Some(size.to_string())),
            ("cursor", cursor.map(str::to_owned)),
        ]);
        self.get(format!("/search{query}")).await
    }

    async fn group_jobs(
        &self,
        queue: &str,
        group: &str,
        size: u32,
        cursor: Option<&str>,
    ) -> Outcome<Value> {
        let query = query(&[
            ("group", Some(group.to_owned())),
            ("size", Some(size.to_string())),
            ("cursor", cursor.map(str::to_owned)),
        ]);
        self.get(format!("/queues/{}/jobs{query}", segment(queue))).await
    }

    async fn find(&self, id: &str) -> Outcome<Vec<Value>> {
        let (mut jobs, mut after) = (Vec::new(), None);
        loop {
            let query = query(&[("id", Some(id.to_owned())), ("after", after.take())]);
            let page = self.get(format!("/jobs{query}")).await?;
            jobs.extend(list(&page["jobs"]).iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(jobs),
            }
        }
    }

    async fn job(&self, place: &JobPlace) -> Outcome<Value> {
        self.get(Self::job_path(place)).await
    }

    async fn explain(&self, place: &JobPlace) -> Outcome<Value> {
        self.get(format!("{}/explanation", Self::job_path(place))).await
    }

    async fn act(&self, place: &JobPlace, verb: Verb) -> Outcome {
        let path = Self::job_path(place);
        match verb {
            Verb::Run => self.post(format!("{path}/run"), json!({})).await,
            Verb::Archive => self.post(format!("{path}/archive"), json!({})).await,
            Verb::Delete => self.ask(Method::DELETE, path, None, ANSWER_TIMEOUT).await,
        }
        .map(|_| ())
    }

    async fn cancel(&self, place: &JobPlace, then: Then) -> Outcome<String> {
        let path = format!("{}/cancel", Self::job_path(place));
        let answer = self.post(path, json!({ "then": then.name() })).await?;
        Ok(text(&answer["outcome"]).to_owned())
    }

    async fn edit(&self, place: &JobPlace, payload: &[u8]) -> Outcome {
        let path = format!("{}/payload", Self::job_path(place));
        self.ask(Method::PUT, path, Some(payload.to_vec()), ANSWER_TIMEOUT).await.map(|_| ())
    }

    async fn enqueue(&self, job: &NewJob) -> Outcome<Value> {
        let seconds = |length: Option<Duration>| length.map(|length| length.as_secs().to_string());
        let query = query(&[
            ("queue", job.queue.clone()),
            ("delay_seconds", seconds(job.delay)),
            ("max_retry", job.max_retry.map(|most| most.to_string())),
            ("expires_seconds", seconds(job.expires)),
            ("unique_seconds", seconds(job.unique)),
        ]);
        let path = format!("/jobs/{}{query}", segment(&job.job_type));
        self.ask(Method::POST, path, Some(job.payload.clone()), ANSWER_TIMEOUT).await
    }

    async fn periodic(&self) -> Outcome<Value> {
        self.get("/periodic".to_owned()).await
    }

    async fn runs(&self, periodic: &str, size: u32) -> Outcome<Value> {
        self.get(format!("/periodic/{}/runs?size={size}", segment(periodic))).await
    }

    async fn run_periodic(&self, periodic: &str) -> Outcome<String> {
        let answer = self.post(format!("/periodic/{}/run", segment(periodic)), json!({})).await?;
        Ok(text(&answer["job_id"]).to_owned())
    }

    async fn servers(&self) -> Outcome<Value> {
        self.get("/servers".to_owned()).await
    }

    async fn change_workers(&self, id: Option<&str>, change: &WorkerChange) -> Outcome<u64> {
        let mut body = json!({});
        if let Some(quiet) = change.quiet {
            body["quiet"] = json!(quiet);
        }
        if let Some(slots) = change.concurrency {
            body["concurrency"] = json!(slots);
        }
        for (queue, weight) in &change.weights {
            body["queues"][queue] = json!(weight);
        }
        if let Some(time) = change.lasting {
            body["seconds"] = json!(time.as_secs());
        }
        let path = match id {
            Some(id) => format!("/workers/{}", segment(id)),
            None => "/workers".to_owned(),
        };
        let body = Some(body.to_string().into_bytes());
        let answer = self.ask(Method::PATCH, path, body, ANSWER_TIMEOUT).await?;
        Ok(answer["workers"].as_u64().unwrap_or(1))
    }

    async fn info(&self) -> Outcome<Value> {
        self.get("/store".to_owned()).await
    }

    async fn alerts(&self) -> Outcome<Value> {
        self.get("/alerts".to_owned()).await
    }

    async fn doctor(&self, repair: bool) -> Outcome<Value> {
        match repair {
            false => self.ask(Method::GET, "/doctor".to_owned(), None, LONG_TIMEOUT).await,
            true => {
                let path = "/doctor/repair".to_owned();
                self.ask(Method::POST, path, Some(b"{}".to_vec()), LONG_TIMEOUT).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_origin_with_or_without_a_base() {
        let url = |text: &str| Rest::new(text, None).map(|rest| rest.url);
        assert_eq!(url("http://a:8000").unwrap(), "http://a:8000/api/dm-jobqueue");
        assert_eq!(url("https://a/").unwrap(), "https://a/api/dm-jobqueue");
        assert_eq!(url("https://a/jobs/").unwrap(), "https://a/jobs");
        for wrong in
            ["", "a:8000", "http://", "redis://a", "http://u:p@a", "http://a/?x", "http://a b"]
        {
            let failure = url(wrong).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{wrong}");
            assert!(!failure.message.contains("u:p"), "{}", failure.message);
        }
    }

    #[test]
    fn every_text_is_one_segment() {
        assert_eq!(segment("a/b c%é?"), "a%2Fb%20c%25%C3%A9%3F");
        assert_eq!(query(&[("a", None), ("b", Some("x y".into()))]), "?b=x%20y");
        assert_eq!(query(&[]), "");
    }
}
