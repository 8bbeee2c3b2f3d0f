//! Parts of paths and query parameters: each is taken as text, and a wrong one is 422.

use rocket::form::{self, DataField, FromForm, Options, ValueField};

use super::Refused;
use crate::broker::Page;
use crate::error::Error;
use crate::job::{JobId, QueueName};

/// Parses a queue name in its printable form. The queue need not exist. 422 for an invalid form.
pub(crate) fn queue_name(name: &str) -> Result<QueueName, Refused> {
    Ok(name.parse()?)
}

/// Parses the queue and id of a path, in their printable forms. 422 for an invalid form;
/// whether the job exists is for the store to say.
pub(crate) fn place(queue: &str, id: &str) -> Result<(QueueName, JobId), Refused> {
    Ok((queue_name(queue)?, id.parse()?))
}

/// A query parameter as it was sent, however often; the route reports what is wrong with it.
pub(crate) struct Param<'r>(Vec<&'r str>);

impl<'r> Param<'r> {
    /// Its text; `None` if it is absent or empty.
    ///
    /// # Errors
    /// 422 if it was sent more than once.
    pub(super) fn once(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        Ok(self.given(name)?.filter(|text| !text.is_empty()))
    }

    /// A filter's text; `None` if it is absent.
    ///
    /// # Errors
    /// 422 if it was sent more than once, or empty: it must not become no filter.
    pub(super) fn filter(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        match self.given(name)? {
            Some("") => {
                Err(Error::invalid(format!("{name}: expected a value, found nothing")).into())
            }
            given => Ok(given),
        }
    }

    /// Its text, also an empty one, which is not a number; `None` if it is absent.
    pub(super) fn given(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        match self.0[..] {
            [] => Ok(None),
            [text] => Ok(Some(text)),
            _ => {
                let times = self.0.len();
                Err(Error::invalid(format!("{name}: expected once, found {times} times")).into())
            }
        }
    }
}

#[rocket::async_trait]
impl<'r> FromForm<'r> for Param<'r> {
    type Context = Self;

    fn init(_: Options) -> Self {
        Self(Vec::new())
    }

    fn push_value(context: &mut Self, field: ValueField<'r>) {
        context.0.push(field.value);
    }

    async fn push_data(_: &mut Self, _: DataField<'r, '_>) {}

    fn finalize(context: Self) -> form::Result<'r, Self> {
        Ok(context)
    }
}

/// Parses a whole number within these bounds; `None` if it is absent.
pub(crate) fn number(
    name: &str,
    value: Option<&str>,
    least: u64,
    most: u64,
) -> Result<Option<u64>, Refused> {
    let Some(text) = value else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => {
            let shown: String = text.chars().take(40).collect();
            Err(Error::invalid(format!(
                "{name}: expected a whole number from {least} to {most}, found {shown:?}"
            ))
            .into())
        }
    }
}

/// The requested page, by number or by cursor. Default: the first page of 30 rows; at most 100.
///
/// # Errors
/// 422 for both a number and a cursor, or for a value out of range.
pub(crate) fn page(
    number: Option<&str>,
    size: Option<&str>,
    cursor: Option<&str>,
) -> Result<Page, Refused> {
    let given = |text: &Option<&str>| text.is_some_and(|text| !text.is_empty());
    if given(&number) && given(&cursor) {
        return Err(Error::invalid("page: expected a number or a cursor, found both").into());
    }
    let page = match cursor.filter(|text| !text.is_empty()) {
        Some(cursor) => Page::after(cursor.parse()?),
        None => {
            let number = self::number("page", number, 1, u64::from(u32::MAX))?.unwrap_or(1);
            Page::number(u32::try_from(number).unwrap_or(u32::MAX))?
        }
    };
    let size = self::number("size", size, 1, 100)?.unwrap_or(30);
    Ok(page.size(u32::try_from(size).unwrap_or(u32::MAX))?)
}
