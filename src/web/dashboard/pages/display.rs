//! The choices of how pages look: theme, language, time zone, times. They change nothing but
//! cookies of the reader's own browser, so whoever may view may choose, also where the queue is
//! read-only.

use chrono_tz::{TZ_VARIANTS, Tz};
use maud::html;
use rocket::http::uri::Origin;
use rocket::http::{Cookie, SameSite, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{self, Redirect, Responder};
use rocket::time::Duration;
use rocket::{Response, Route, post, routes};

use crate::error::Error;
use crate::web::dashboard::ui::display::{LANGUAGE, THEME, THEMES, TIMES, ZONE};
use crate::web::dashboard::ui::form::{Form, FormBody};
use crate::web::dashboard::ui::{HtmlPage, NavPage, Site, Texts};
use crate::web::guards::ViewAccess;
use crate::web::origin::SameOrigin;

/// The largest form that is read, in bytes: the page to go back to is the longest field.
const MAX_FORM_BYTES: u64 = 64 * 1024;

/// The fields of the form.
const FIELDS: [&str; 5] = ["theme", "language", "zone", "times", "back"];

/// Reads a choice: the value of its cookie, empty for none.
type Read = fn(&str) -> Result<String, Error>;

/// The right to choose: to view, from a page of this origin.
pub(crate) struct Choose<'r> {
    site: Site<'r>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Choose<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let _access = rocket::outcome::try_outcome!(ViewAccess::from_request(request).await);
        let origin = SameOrigin::from_request(request).await;
        let _origin = rocket::outcome::try_outcome!(origin.map_error(|(status, _)| (status, ())));
        let site = rocket::outcome::try_outcome!(Site::from_request(request).await);
        Outcome::Success(Self { site })
    }
}

/// Cookies to set or, if they have no value, to remove; and the page to go back to.
pub(crate) struct Chosen {
    cookies: Vec<(&'static str, String)>,
    path: String,
    back: String,
}

impl<'r> Responder<'r, 'static> for Chosen {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let mut answer = Response::build_from(Redirect::to(self.back).respond_to(request)?);
        for (name, value) in self.cookies {
            let age = if value.is_empty() { Duration::ZERO } else { Duration::days(365) };
            let cookie = Cookie::build((name, value))
                .path(self.path.clone())
                .same_site(SameSite::Lax)
                .max_age(age);
            answer.header_adjoin(cookie.build());
        }
        answer.ok()
    }
}

/// Keeps the choices, and goes back to the page they were made on. An unknown choice is 422, and
/// nothing is kept.
#[post("/ui/display", data = "<body>")]
async fn choose(choose: Choose<'_>, body: FormBody<'_>) -> Result<Chosen, HtmlPage> {
    let site = &choose.site;
    let form = Form::read(body, MAX_FORM_BYTES, &FIELDS).await;
    let form = form.map_err(|problem| site.refused(&problem))?;
    let mut cookies = Vec::new();
    let fields: [(&str, &'static str, Read); 4] = [
        ("theme", THEME, theme),
        ("language", LANGUAGE, language),
        ("zone", ZONE, zone),
        ("times", TIMES, times),
    ];
    for (field, cookie, read) in fields {
        if let Some(text) = form.get(field) {
            let value = read(text.trim()).map_err(|error| wrong(site, &error))?;
            cookies.push((cookie, value));
        }
    }
    let base = site.reader.base.clone();
    // Only to pages of ours.
    let is_ours = |back: &&str| {
        let path = back.split('?').next().unwrap_or_default();
        (path == "/ui" || path.starts_with("/ui/")) && Origin::parse(back).is_ok()
    };
    let back = Some(form.text("back")).filter(is_ours).unwrap_or("/ui");
    Ok(Chosen { cookies, back: format!("{base}{back}"), path: format!("{base}/ui") })
}

/// The page about a choice that there is not.
fn wrong(site: &Site<'_>, error: &Error) -> HtmlPage {
    let content = html! { div.notice.bad role="alert" { p { (error) } } };
    site.page(Status::UnprocessableEntity, NavPage::Elsewhere, site.texts().display, content)
}

/// A theme; empty for the system's.
fn theme(text: &str) -> Result<String, Error> {
    match THEMES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid(format!(
            "theme: expected one of {}, found {:?}",
            THEMES.join(", "),
            short(text)
        ))),
    }
}

/// A language; empty for what the browser asks for.
fn language(text: &str) -> Result<String, Error> {
    let codes: Vec<&str> = Texts::all().iter().map(|texts| texts.code).collect();
    match text.is_empty() || codes.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid(format!(
            "language: expected one of {}, found {:?}",
            codes.join(", "),
            short(text)
        ))),
    }
}

/// A zone by its name; empty for the browser's own.
fn zone(text: &str) -> Result<String, Error> {
    if text.is_empty() || text.eq_ignore_ascii_case("local") {
        return Ok(String::new());
    }
    if let Some(zone) = TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(text)) {
        return Ok(zone.name().to_owned());
    }
    let likeness =
        |zone: &&Tz| strsim::jaro_winkler(&text.to_lowercase(), &zone.name().to_lowercase());
    let nearest = TZ_VARIANTS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    Err(Error::invalid(format!(
        "zone: expected local, UTC or a name such as Europe/Berlin, found {:?}; the nearest is {}",
        short(text),
        nearest.map_or("UTC", |zone| zone.name())
    )))
}

/// How times are told; empty for distances.
fn times(text: &str) -> Result<String, Error> {
    match text {
        "relative" => Ok(String::new()),
        "absolute" => Ok(text.to_owned()),
        _ => Err(Error::invalid(format!(
            "times: expected relative or absolute, found {:?}",
            short(text)
        ))),
    }
}

/// The beginning of a text from outside.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![choose]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_or_named_as_the_nearest() {
        assert_eq!(zone("europe/berlin").unwrap(), "Europe/Berlin");
        assert_eq!(zone("Local").unwrap(), "");
        let error = zone("Asia/Tokio").unwrap_err().to_string();
        assert!(error.ends_with("the nearest is Asia/Tokyo"), "{error}");
        assert!(theme("blue").is_err() && language("tlh").is_err() && times("soon").is_err());
    }
}
