//! The fields of a form that a page sent.
//!
//! Values are decoded leniently: bytes that are not UTF-8 become replacement characters, and checks
//! of the values reject them. `pages::bulk` reads its form with Rocket's own strict parser instead.

use std::collections::HashSet;

use rocket::Data;
use rocket::data::ByteUnit;
use rocket::http::RawStr;

use crate::error::Error;
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
        match repeated(&form.0) {
            Some(error) => Err(ProblemDetails::of(&error, "The form is not valid")),
            None => Ok(form),
        }
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

/// The error about the first field that is given twice, if there is one.
pub(crate) fn repeated(pairs: &[(String, String)]) -> Option<Error> {
    let mut seen = HashSet::new();
    let (name, _) = pairs.iter().find(|(name, _)| name != SELECTED && !seen.insert(name))?;
    let times = pairs.iter().filter(|(other, _)| other == name).count();
    let shown: String = name.chars().take(40).collect();
    Some(Error::invalid(format!("{shown}: expected once, found {times} times")))
}

/// The pairs of an urlencoded form.
pub(crate) fn form_pairs(body: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
    body.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(move |(name, value)| (decode(name), decode(value)))
}
