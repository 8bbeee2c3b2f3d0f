//! The demo's own routes and the guard in front of the dashboard.

use rocket::form::{Form, FromForm};
use rocket::http::{Cookie, CookieJar, RawStr, SameSite, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::Redirect;
use rocket::response::content::RawHtml;
use rocket::serde::json::{Json, Value, json};
use rocket::{Route, State, get, post, routes};
use rocket_jobqueue::{Error, JobQueue};

use crate::jobs::{CountVisit, Nap, SendOrder, Visits};

/// The token that opens the dashboard; random for each launch, shown on the terminal.
pub struct Token(pub String);

/// A request with the token. An application would ask its own login here.
pub struct Admin;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Admin {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let Some(admin) = request.rocket().state::<Token>() else {
            return Outcome::Error((Status::Forbidden, ()));
        };
        let token = &admin.0;
        let header = request.headers().get_one("Authorization");
        let bearer = header.and_then(|value| value.strip_prefix("Bearer "));
        let query = request.query_value::<&str>("token").and_then(Result::ok);
        if query == Some(token) {
            request.cookies().add(session(admin));
            return Outcome::Success(Admin);
        }
        let cookie = request.cookies().get("demo_token").map(|cookie| cookie.value().to_owned());
        if bearer == Some(token) || cookie.as_deref() == Some(token) {
            Outcome::Success(Admin)
        } else {
            Outcome::Error((Status::Unauthorized, ()))
        }
    }
}

/// The login: whoever types the token gets the cookie, and goes on to the page they came from.
#[get("/login?<next>&<wrong>")]
fn login(next: Option<&str>, wrong: Option<bool>) -> RawHtml<String> {
    let next = RawStr::new(next.unwrap_or_default()).html_escape();
    let wrong = wrong.map_or("", |_| "<p role=alert>That is not the token.");
    RawHtml(format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width'><title>Log in</title>\
         <h1>Log in</h1>{wrong}<form method=post action=/login>\
         <input type=hidden name=next value=\"{next}\">\
         <p><label>Token shown on the terminal <input name=token type=password autofocus></label>\
         <p><button>Log in</button></form>"
    ))
}

#[derive(FromForm)]
struct Credentials<'r> {
    token: &'r str,
    next: &'r str,
}

#[post("/login", data = "<form>")]
fn log_in(
    form: Form<Credentials<'_>>,
    token: &State<Token>,
    queue: &JobQueue,
    cookies: &CookieJar<'_>,
) -> Redirect {
    if form.token.trim() != token.0 {
        let next = RawStr::new(form.next).percent_encode();
        return Redirect::to(format!("/login?wrong=true&next={next}"));
    }
    cookies.add(session(token));
    // Only paths of this host: the parameter comes from outside.
    let elsewhere = ["//", "/\\"].iter().any(|start| form.next.starts_with(start));
    let is_ours = form.next.starts_with('/') && !elsewhere;
    Redirect::to(match is_ours {
        true => form.next.to_owned(),
        false => format!("{}/ui", queue.config().base),
    })
}

/// With this cookie the links of a page work without the token in them.
fn session(token: &Token) -> Cookie<'static> {
    Cookie::build(("demo_token", token.0.clone()))
        .same_site(SameSite::Strict)
        .http_only(true)
        .into()
}

#[get("/")]
fn index(queue: &JobQueue, visits: &State<Visits>) -> RawHtml<String> {
    let base = &queue.config().base;
    let total = visits.total();
    let register = match queue.config().register_route {
        true => format!("<li><a href='{base}/ui/register'>Register a job</a>"),
        false => String::new(),
    };
    RawHtml(format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width'><title>rocket_jobqueue demo</title>\
         <h1>rocket_jobqueue demo</h1><p>Visits counted by jobs: {total}</p><ul>\
         {register}\
         <li><a href='{base}/docs'>API documentation</a>\
         <li><a href='{base}/ui'>Dashboard</a> (log in with the token shown on the terminal)\
         <li><a href='{base}/health'>Health</a></ul>"
    ))
}

#[post("/visits/<visitor>")]
async fn visit(visitor: &str, queue: &JobQueue) -> Result<Json<Value>, Error> {
    let receipt = queue.enqueue(CountVisit { visitor: visitor.to_owned() }).await?;
    Ok(Json(json!({ "job_id": receipt.id })))
}

#[post("/orders/<order>?<closed_for>")]
async fn order(
    order: u64,
    closed_for: Option<u32>,
    queue: &JobQueue,
) -> Result<Json<Value>, Error> {
    let closed_for = closed_for.unwrap_or(1);
    let receipt = queue.enqueue(SendOrder { order, closed_for }).await?;
    Ok(Json(json!({ "job_id": receipt.id })))
}

#[post("/naps/<seconds>")]
async fn nap(seconds: u64, queue: &JobQueue) -> Result<Json<Value>, Error> {
    let receipt = queue.enqueue(Nap { seconds }).await?;
    Ok(Json(json!({ "job_id": receipt.id })))
}

pub fn all() -> Vec<Route> {
    routes![index, login, log_in, visit, order, nap]
}
