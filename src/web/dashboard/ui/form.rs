//! The fields of a form that a page sent.
//!
//! Values are decoded leniently: bytes that are not UTF-8 become replacement characters, and checks
//! of the values reject them. `pages::bulk` reads its form with Rocket's own strict parser instead.

use std::collections::HashSet;

use rocket::Data;
use rocket::data::ByteUnit;
use rocket::http::{RawStr, Status};

use crate::web::api::read_bytes;
use crate::web::error::ProblemDetails;

/// The field of a table's checkboxes: the only one that a form may hold several times.
pub(crate) const SELECTED: &str = "job";

/// The names and values of an urlencoded form, in their order. Only [`SELECTED`] occurs several
/// times.
pub(crate) struct Form(pub Vec<(String, String)>);

impl Form {
    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// 413 for a larger body, 408 for one that is sent too slowly, 422 for a field that is given
    /// twice: nobody can tell which value was meant.
    pub(crate) async fn read(
        body: Data<'_>,
        limit: impl Into<ByteUnit>,
    ) -> Result<Self, ProblemDetails> {
        let bytes = read_bytes(body, limit.into()).await?;
        let form = Self(form_pairs(&String::from_utf8_lossy(&bytes)).collect());
        expect_no_repetition(&form.0)?;
        Ok(form)
    }

    /// The first value of this name; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str())
    }
}

/// # Errors
/// 422 that names the first field that is given twice.
pub(crate) fn expect_no_repetition(pairs: &[(String, String)]) -> Result<(), ProblemDetails> {
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

/// The pairs of an urlencoded form.
pub(crate) fn form_pairs(body: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
    body.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(move |(name, value)| (decode(name), decode(value)))
}
