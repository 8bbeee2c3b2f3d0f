//! The fields of a form that a page sent.
//!
//! Values are decoded leniently: bytes that are not UTF-8 become replacement characters, and checks
//! of the values reject them. `pages::bulk` reads its form with Rocket's own strict parser instead.

use rocket::Data;
use rocket::data::ByteUnit;
use rocket::http::RawStr;

use crate::web::api::read_bytes;
use crate::web::error::ProblemDetails;

/// The names and values of an urlencoded form, in their order. A name may occur several times,
/// as the checkboxes of a table do.
pub(crate) struct Form(pub Vec<(String, String)>);

impl Form {
    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// 413 for a larger body, 408 for one that is sent too slowly.
    pub(crate) async fn read(
        body: Data<'_>,
        limit: impl Into<ByteUnit>,
    ) -> Result<Self, ProblemDetails> {
        let bytes = read_bytes(body, limit.into()).await?;
        Ok(Self(form_pairs(&String::from_utf8_lossy(&bytes)).collect()))
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

/// The pairs of an urlencoded form.
pub(crate) fn form_pairs(body: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| RawStr::new(text).url_decode_lossy().into_owned();
    body.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(move |(name, value)| (decode(name), decode(value)))
}
