//! The fields of a form that a page sent: the only parser of forms.
//!
//! A form is an order to change something, so nothing in it is guessed. A field that the page does
//! not have, one that is given twice and a value that is not UTF-8 are errors: each might be a
//! filter that would widen the order if it were dropped.

use std::collections::HashSet;
use std::convert::Infallible;

use rocket::data::{self, ByteUnit, Data, FromData};
use rocket::http::{RawStr, Status};
use rocket::request::Request;

use crate::web::api::{Refused, expect_no_coding, read_bytes};
use crate::web::error::ProblemDetails;
use crate::web::query::expect_known;

/// The field of a table's checkboxes: the only one that a form may hold several times.
pub(crate) const SELECTED: &str = "job";

/// The largest body of a form without fields, in bytes.
const MAX_EMPTY_BYTES: u64 = 4096;

/// The body of a form before it is read. It never fails as a guard, so the page itself answers.
pub(crate) struct FormBody<'r> {
    data: Data<'r>,
    /// 415 for a compressed body.
    coding: Result<(), ProblemDetails>,
}

#[rocket::async_trait]
impl<'r> FromData<'r> for FormBody<'r> {
    type Error = Infallible;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> data::Outcome<'r, Self> {
        data::Outcome::Success(Self { data, coding: expect_no_coding(request) })
    }
}

impl FormBody<'_> {
    /// Reads at most `limit` bytes.
    ///
    /// # Errors
    /// 415 for a compressed body, 413 for a larger one, 408 for one that is sent too slowly.
    pub(crate) async fn bytes(self, limit: impl Into<ByteUnit>) -> Result<Vec<u8>, ProblemDetails> {
        self.coding?;
        read_bytes(self.data, limit.into()).await
    }
}

/// The names and values of an urlencoded form, in their order. Only [`SELECTED`] occurs several
/// times.
pub(crate) struct Form(pub Vec<(String, String)>);

impl Form {
    /// Reads a body of at most `limit` bytes with some of the `known` fields.
    ///
    /// # Errors
    /// As [`FormBody::bytes`]; 422 for an unknown field, for one that is given twice, and for
    /// text that is not UTF-8.
    pub(crate) async fn read(
        body: FormBody<'_>,
        limit: impl Into<ByteUnit>,
        known: &[&str],
    ) -> Result<Self, ProblemDetails> {
        let form = Self::parse(&body.bytes(limit).await?)?;
        for (name, _) in &form.0 {
            expect_known("form field", name, known).map_err(|error| Refused::from(error).0)?;
        }
        Ok(form)
    }

    /// Reads the body of a form that has no fields.
    ///
    /// # Errors
    /// As [`read`](Self::read): 422 for any field.
    pub(crate) async fn read_empty(body: FormBody<'_>) -> Result<(), ProblemDetails> {
        Self::read(body, MAX_EMPTY_BYTES, &[]).await.map(drop)
    }

    /// Parses a body with fields of any name.
    ///
    /// # Errors
    /// 422 for a field that is given twice, and for text that is not UTF-8.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ProblemDetails> {
        let pairs = pairs(body).ok_or_else(|| {
            let detail = "expected a form in UTF-8, found other bytes";
            ProblemDetails::new(Status::UnprocessableEntity, detail)
        })?;
        expect_no_repetition(&pairs)?;
        Ok(Self(pairs))
    }

    /// The value of this name; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str())
    }
}

/// # Errors
/// 422 that names the first field that is given twice.
fn expect_no_repetition(pairs: &[(String, String)]) -> Result<(), ProblemDetails> {
    let mut seen = HashSet::new();
    let Some((name, _)) = pairs.iter().find(|(name, _)| name != SELECTED && !seen.insert(name))
    else {
        return Ok(());
    };
    let times = pairs.iter().filter(|(other, _)| other == name).count();
    let shown: String = name.chars().take(40).collect();
    let detail = format!("{shown}: expected once, found {times} times");
    Err(ProblemDetails::new(Status::UnprocessableEntity, detail))
}

/// The pairs of an urlencoded form; `None` if they are not UTF-8.
fn pairs(body: &[u8]) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| RawStr::new(text).url_decode().ok().map(|text| text.into_owned());
    let pairs = std::str::from_utf8(body).ok()?.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| Some((decode(name)?, decode(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_with_a_doubtful_field_is_refused() {
        let form = Form::parse("a+b=%E3%81%82%26&job=1&&job=2&empty".as_bytes()).unwrap();
        assert_eq!(form.get("a b"), Some("あ&"));
        assert_eq!((form.get("empty"), form.get("none")), (Some(""), None));
        for wrong in [&b"a=1&a=1"[..], b"a=1&%61=2", b"a&a", b"a=%ff", b"%ff=1", b"a=\xff"] {
            let Err(problem) = Form::parse(wrong) else { panic!("{wrong:?} was accepted") };
            assert_eq!(problem.status(), Status::UnprocessableEntity);
        }
    }
}
