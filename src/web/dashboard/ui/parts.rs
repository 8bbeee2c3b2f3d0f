//! Small parts of pages: facts, buttons, instants and cut texts.
//!
//! Relative times are right when the page is made; the script refreshes a page at least every 30 s.

use std::borrow::Cow;
use std::time::Duration;

use maud::{Markup, html};

use super::form::Form;
use super::{Deed, Reader, Texts};
use crate::error::Error;
use crate::job::{JobId, QueueName};
use crate::time::Timestamp;

/// The longest error of a table, in characters.
const MAX_LINE_CHARS: usize = 100;

/// A name and a value, within a `dl`.
pub(crate) fn fact(label: &str, value: Markup) -> Markup {
    html! { div { dt { (label) } dd { (value) } } }
}

/// How long the oldest pending job has waited; a dash if none waits.
pub(crate) fn oldest(texts: &Texts, waited: Duration) -> Markup {
    html! { @if waited.is_zero() { "–" } @else { ((texts.span)(waited)) } }
}

/// A button that acts at once. Its consequence is its title: for a table, which has no room.
pub(crate) fn button(texts: &Texts, action: &str, deed: Deed) -> Markup {
    let words = (texts.deed)(deed);
    html! {
        form.action method="post" action=(action) {
            button.small.plain type="submit" title=(words.consequence) { (words.label) }
        }
    }
}

/// A button that acts at once, beside a line that says what it does.
pub(crate) fn deed(texts: &Texts, action: &str, deed: Deed) -> Markup {
    let words = (texts.deed)(deed);
    html! {
        div.deed {
            form.action method="post" action=(action) {
                button.small.plain type="submit" { (words.label) }
            }
            p { (words.consequence) }
        }
    }
}

/// A button that opens a question, for what cannot be undone: what follows, a button that does it
/// and one that leaves things as they are. It works without scripts.
pub(crate) fn question(texts: &Texts, action: &str, deed: Deed, consequence: &str) -> Markup {
    let form = html! {
        form.action method="post" action=(action) {
            button.small.grave type="submit" { ((texts.deed)(deed).label) }
        }
    };
    asked(texts, deed, html! { p { (consequence) } }, form)
}

/// The same with a form of its own.
pub(crate) fn asked(texts: &Texts, deed: Deed, consequence: Markup, form: Markup) -> Markup {
    let words = (texts.deed)(deed);
    html! {
        details.sure {
            summary.small { (words.label) "…" }
            div {
                (consequence)
                div.actions { (form) (keep(words.keep)) }
            }
        }
    }
}

/// The name of the field of [`typed`].
pub(crate) const CONFIRM: &str = "confirm";

/// The field in which the reader types what is about to be lost, the queue's name or the number of
/// jobs, because it cannot be undone.
pub(crate) fn typed(texts: &Texts, what: &str) -> Markup {
    html! {
        label.typed {
            ((texts.type_to_confirm)(what)) " "
            input name=(CONFIRM) required autocomplete="off" autocapitalize="off" spellcheck="false";
        }
    }
}

/// Whether it was typed; spaces around it do not matter.
///
/// # Errors
/// [`Error::is_invalid`] with what was expected and found.
pub(crate) fn expect_typed(form: &Form, what: &str) -> Result<(), Error> {
    let found = form.text(CONFIRM).trim();
    match found == what.trim() {
        true => Ok(()),
        false => Err(Error::invalid(format!("{CONFIRM}: expected {what:?}, found {found:?}"))),
    }
}

/// Closes a question. Without scripts it shows the page again, in which every question is closed.
fn keep(label: &str) -> Markup {
    html! { a.small href="" role="button" data-dismiss { (label) } }
}

/// An instant: how far away it is, and in full as its title. A dash for none.
pub(crate) fn instant(texts: &Texts, now: Timestamp, at: Option<Timestamp>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    let text = if at > now {
        (texts.from_now)(&(texts.span)(at.since(now)))
    } else {
        (texts.ago)(&(texts.span)(now.since(at)))
    };
    html! { time datetime=(at) title=(at) { (text) } }
}

/// A number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The first line of an error, at most 100 characters of it.
pub(crate) fn short(text: &str) -> String {
    cut(text.lines().next().unwrap_or_default(), MAX_LINE_CHARS).into_owned()
}

/// The beginning of a job type in a list, at most 100 characters of it. Not its first line, which
/// may be empty and would leave a link without a text.
pub(crate) fn short_type(job_type: &str) -> Cow<'_, str> {
    cut(job_type, MAX_LINE_CHARS)
}

/// The beginning of a foreign text that is shown among others, with an ellipsis if that is not all.
pub(crate) fn cut(text: &str, most_chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Maximum bytes of a foreign name that a link or a form of a list repeats. Names may have
/// megabytes, and a list has many.
const MAX_LINKED_BYTES: usize = 1024;

/// Whether a link or a form of a list may repeat this name.
pub(crate) fn is_linkable(name: &str) -> bool {
    name.len() <= MAX_LINKED_BYTES
}

/// How much is shown of an id that is too long for an address, in characters.
const MAX_ID_CHARS: usize = 64;

/// A link to a job's page. An id that is too long for an address is cut, and the text below it
/// says how to act on the job.
pub(crate) fn job_link(reader: &Reader, queue: &QueueName, id: &JobId, text: Markup) -> Markup {
    match reader.reachable_job(queue, id) {
        Some(path) => html! { a href=(path) { (text) } },
        None => html! {
            code { (id.as_str().chars().take(MAX_ID_CHARS).collect::<String>()) "…" }
            p.hint { ((reader.texts.id_too_long)(id.as_str().len())) }
        },
    }
}

/// A link to another page of a list.
pub(crate) fn more(to: &str, label: &str) -> Markup {
    html! { p.more { a href=(to) { (label) } } }
}

/// A card with one sentence, for a page whose list is empty.
pub(crate) fn empty(sentence: &str) -> Markup {
    html! { div.card.empty { p { (sentence) } } }
}
