//! A guard that lets everybody in: for tests of what lies behind it.

use rocket::request::{FromRequest, Outcome, Request};

pub struct Anybody;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Anybody {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Success(Self)
    }
}
