//! The demo's own routes and the guard in front of the dashboard.

use rocket::http::{Cookie, SameSite, Status};
use rocket::request::{FromRequest, Outcome, Request};
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
        let Some(Token(token)) = request.rocket().state::<Token>() else {
            return Outcome::Error((Status::Forbidden, ()));
        };
        let header = request.headers().get_one("Authorization");
        let bearer = header.and_then(|value| value.strip_prefix("Bearer "));
        let query = request.query_value::<&str>("token").and_then(Result::ok);
        if query == Some(token) {
            // The links of the page then work without the token in them.
            let cookie = Cookie::build(("demo_token", token.clone()))
                .same_site(SameSite::Strict)
                .http_only(true);
            request.cookies().add(cookie);
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
         <li><a href='{base}/ui'>Dashboard</a> (needs the token shown on the terminal)\
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
    routes![index, visit, order, nap]
}
