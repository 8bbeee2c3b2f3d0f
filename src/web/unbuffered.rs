//! An event stream that reverse proxies pass on as it comes.

use rocket::http::Header;
use rocket::request::Request;
use rocket::response::{self, Responder, Response};

/// Asks nginx, and others that know its header, not to keep the answer back.
pub(crate) struct Unbuffered<R>(pub R);

impl<'r, 'o: 'r, R: Responder<'r, 'o>> Responder<'r, 'o> for Unbuffered<R> {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'o> {
        Response::build_from(self.0.respond_to(request)?)
            .header(Header::new("X-Accel-Buffering", "no"))
            .ok()
    }
}
