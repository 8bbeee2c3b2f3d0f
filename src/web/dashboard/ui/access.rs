//! The two guards of operators' pages. A route names one of them and has everything it needs:
//! the right, the queue, and the reader.
//!
//! A form needs three things, and [`Act`] is the only way to get a site for one: the application's
//! admin guard, a page of this origin (also behind a proxy), and a queue that is not
//! read-only. They are checked in this order, so a stranger learns nothing but 401.

use rocket::outcome::try_outcome;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::Redirect;

use super::form::{Form, FormBody};
use super::{HtmlPage, Reader, Site};
use crate::error::Error;
use crate::web::JobQueue;
use crate::web::api::{Asked, audit};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

/// The right to view a page: 401 or 403 otherwise, as the application's guard decides.
pub(crate) struct View<'r> {
    /// The request's turn to read the store; a route that reads for long gives it up.
    pub access: ViewAccess,
    /// The queue and its reader.
    pub site: Site<'r>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for View<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let access = try_outcome!(ViewAccess::from_request(request).await);
        let mut site = try_outcome!(Site::from_request(request).await);
        site.counts = site.queue.looks().counts.read(&site.inspector()).await;
        Outcome::Success(Self { access, site })
    }
}

/// The right to send a form that changes something: what every such route asks for. The
/// application's admin guard admits the request, `jobqueue.read_only` is not set, and the
/// form comes from a page of this origin.
pub(crate) struct Act<'r> {
    /// The queue and its reader.
    pub site: Site<'r>,
    /// Who asks, for the audit log.
    pub asked: Asked,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Act<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let _access = try_outcome!(ActAccess::from_request(request).await);
        let origin = SameOrigin::from_request(request).await;
        let _origin = try_outcome!(origin.map_error(|(status, _)| (status, ())));
        let asked = Asked::of(request);
        let site = try_outcome!(Site::from_request(request).await);
        Outcome::Success(Self { site, asked })
    }
}

/// After a form: the page to go to, or what went wrong.
pub(crate) type FormResult = Result<Redirect, HtmlPage>;

impl Act<'_> {
    /// Reads the body of a form without fields.
    ///
    /// # Errors
    /// A page with 422 for any field.
    pub(crate) async fn expect_no_fields(&self, body: FormBody<'_>) -> Result<(), HtmlPage> {
        Form::read_empty(body).await.map_err(|problem| self.site.refused(&problem))
    }

    /// Writes one line to the audit log: what was done to which queue.
    pub(crate) fn audit(&self, action: &str, queue: &str, what: &str) {
        audit(&self.asked, action, queue, what);
    }

    /// Goes to this path below the base, or shows why the action failed.
    pub(crate) fn redirect(&self, path: Result<String, Error>) -> FormResult {
        match path {
            Ok(path) => Ok(Redirect::to(format!("{}{path}", self.site.reader.base))),
            Err(error) => Err(self.site.trouble(&error)),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Site<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let queue = try_outcome!(<&JobQueue>::from_request(request).await);
        let reader = match Reader::from_request(request).await {
            Outcome::Success(reader) => reader,
            Outcome::Error((_, never)) => match never {},
            Outcome::Forward(status) => return Outcome::Forward(status),
        };
        Outcome::Success(Self { queue, reader, since: queue.now(), counts: None })
    }
}
