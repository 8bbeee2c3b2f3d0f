//! The recorded text of a failure: an error with all its causes, bounded.
//!
//! The causes follow the error on one line, `reading the template: no such file`, as Go and
//! `anyhow` write them. A cause that the text before it quotes already is left out. What our own
//! errors keep for logs alone ([`ForLogs`]) is left out too. If the error carries a backtrace, it
//! follows after an empty line.
//!
//! The whole text has at most 8 KiB. A backtrace gets at most half of that, so that it cannot push
//! out the causes. Lists and log lines show the text without it ([`without_backtrace`]).
//!
//! What may surprise. On stable Rust the only way to a backtrace is the `Debug` text of an error,
//! so it is found by its heading there. Of what follows the heading, only lines that look like
//! frames are kept: the rest of a `Debug` text may be fields of an error, with anything in them.

use std::error::Error as StdError;

use crate::error::ForLogs;

/// Maximum recorded text of a failure, in bytes. It is stored with the job and read by every list
/// that shows it.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Maximum part of it that is a backtrace, in bytes: the frames of the application come first.
const MAX_BACKTRACE_BYTES: usize = 4 * 1024;

/// Maximum causes that are followed. A longer chain is a loop.
const MAX_CAUSES: usize = 32;

/// What stands before a backtrace. `anyhow` and `eyre` write it like this into their `Debug` text,
/// the only way to a backtrace on stable Rust.
const BACKTRACE: &str = "\n\nStack backtrace:\n";

/// Anything that can fail a job: an error, or a text.
pub(crate) type Failure<'a> = Box<dyn StdError + Send + Sync + 'a>;

/// The text to record of this failure.
pub(crate) fn failure_text(failure: &Failure<'_>) -> String {
    let text = with_causes(&**failure);
    let debug = format!("{failure:?}");
    let Some((_, backtrace)) = debug.split_once(BACKTRACE) else {
        return cut(text, MAX_TEXT_BYTES);
    };
    // `Debug` may go on with fields of an error around it, which may hold anything.
    let is_frame = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("at ") || line.starts_with(|c: char| c.is_ascii_digit())
    };
    let frames: Vec<&str> = backtrace.lines().take_while(is_frame).collect();
    let backtrace = cut(format!("{BACKTRACE}{}", frames.join("\n")), MAX_BACKTRACE_BYTES);
    cut(text, MAX_TEXT_BYTES - MAX_BACKTRACE_BYTES) + &backtrace
}

/// A recorded text without its backtrace, for a list or a log line.
pub(crate) fn without_backtrace(text: &str) -> &str {
    text.split_once(BACKTRACE).map_or(text, |(causes, _)| causes)
}

/// An error followed by its causes, outermost first.
fn with_causes(error: &(dyn StdError + '_)) -> String {
    let mut text = error.to_string();
    let (mut cause, mut followed) = (error.source(), 0);
    while let Some(one) = cause.filter(|one| followed < MAX_CAUSES && !one.is::<ForLogs>()) {
        let said = one.to_string();
        if !said.is_empty() && !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        (cause, followed) = (one.source(), followed + 1);
    }
    text
}

/// At most this number of bytes, cut between two characters.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let room = most - '…'.len_utf8();
        let whole = (0..=room).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(whole.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[derive(Debug, thiserror::Error)]
    enum Shop {
        #[error("reading the template")]
        Template(#[source] std::io::Error),
        #[error("charging: {0}")]
        Charge(#[source] Box<Shop>),
    }

    /// Its own cause.
    #[derive(Debug)]
    struct Loop;

    impl std::fmt::Display for Loop {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("loop")
        }
    }

    impl StdError for Loop {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&Loop)
        }
    }

    fn text(error: impl Into<Failure<'static>>) -> String {
        failure_text(&error.into())
    }

    fn template() -> Shop {
        Shop::Template(std::io::Error::other("no such file"))
    }

    #[test]
    fn all_causes_follow_and_none_twice() {
        assert_eq!(text(template()), "reading the template: no such file");
        let charge = Shop::Charge(Box::new(template()));
        assert_eq!(text(charge), "charging: reading the template: no such file");
        assert_eq!(text("plain"), "plain");
        let inner = anyhow::Error::new(template()).context("sending the mail");
        assert_eq!(
            without_backtrace(&text(inner)),
            "sending the mail: reading the template: no such file"
        );
    }

    #[test]
    fn what_a_store_said_stays_out_of_the_text() {
        let error = Error::unavailable("no connection").caused_by("10.0.0.1 refused");
        assert_eq!(text(error.clone()), "no connection");
        let around = text(anyhow::Error::new(error).context("enqueueing"));
        assert_eq!(without_backtrace(&around), "enqueueing: no connection");
    }

    #[test]
    fn a_text_and_a_chain_without_end_are_cut() {
        assert_eq!(text(Loop), "loop");
        let long = text("é".repeat(10_000));
        assert!((8_000..=MAX_TEXT_BYTES).contains(&long.len()) && long.ends_with("é…"));
    }

    #[test]
    fn a_backtrace_that_the_error_carries_follows_bounded() {
        #[derive(thiserror::Error)]
        #[error("it broke")]
        struct Traced(usize);
        impl std::fmt::Debug for Traced {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let frames = "   0: shop::charge\n      at shop.rs:7\n".repeat(self.0);
                write!(f, "it broke{BACKTRACE}{frames}, secret: 7 }}")
            }
        }
        let traced = text(Traced(1));
        let expected = "it broke\n\nStack backtrace:\n   0: shop::charge\n      at shop.rs:7";
        assert_eq!(traced, expected);
        assert_eq!(without_backtrace(&traced), "it broke");
        assert!(text(Traced(10_000)).len() <= MAX_TEXT_BYTES);
    }
}
