//! Where a request that changes something comes from. A browser sends a person's
//! credentials along with any request, also with one that another site's page made.

#[cfg(feature = "dashboard")]
pub(crate) use form::SameOrigin;
use rocket::Request;

/// Whether a browser says that the request comes from a page of this origin;
/// `None` where nothing is said.
pub(crate) fn is_same_origin(request: &Request<'_>) -> Option<bool> {
    let header = |name| request.headers().get_one(name);
    // What the browser itself judged holds also behind a proxy that changes `Host`.
    if let Some(site) = header("Sec-Fetch-Site") {
        return Some(site == "same-origin");
    }
    let origin = header("Origin")?;
    let host = origin.split_once("://").map(|(_, host)| host);
    Some(
        host.is_some()
            && host.map(str::to_ascii_lowercase) == header("Host").map(str::to_ascii_lowercase),
    )
}

/// Whether a change asked for by REST may be carried out: from this origin, or by a
/// program. No form and no link of another site can send a JSON content type.
pub(crate) fn may_change(request: &Request<'_>) -> bool {
    let json = || request.content_type().is_some_and(super::api::is_json);
    is_same_origin(request).unwrap_or_else(json)
}

#[cfg(feature = "dashboard")]
mod form {
    use rocket::Request;
    use rocket::http::Status;
    use rocket::request::{FromRequest, Outcome};

    use super::is_same_origin;

    /// Proof that a form was sent from a page of this origin; anything else is
    /// refused with 403, also a request that does not say where it comes from.
    pub(crate) struct SameOrigin;

    #[rocket::async_trait]
    impl<'r> FromRequest<'r> for SameOrigin {
        type Error = &'static str;

        async fn from_request(request: &'r Request<'_>) -> Outcome<Self, &'static str> {
            match is_same_origin(request) {
                Some(true) => Outcome::Success(SameOrigin),
                _ => {
                    Outcome::Error((Status::Forbidden, "forms are taken from the same origin only"))
                }
            }
        }
    }
}
