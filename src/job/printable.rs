//! Bytes as text that any page, URL and log line can hold, and back.
//!
//! Text stays as it is, except for what would be lost if it were shown and typed
//! again: bytes that are not UTF-8, control and other invisible characters, a space at
//! either end, `%`, and the names `.` and `..`. Each of their bytes becomes `%` and two
//! hexadecimal digits.
//!
//! It is not URL encoding, although it looks like it: a slash, a question mark and letters of any
//! script stay as they are. A link encodes the form once more. It can be reversed without loss
//! ([`from_printable`]), so every id in any store can be addressed, whichever program wrote it.

use crate::text::is_invisible;

/// The printable form, if it differs from the bytes. Most ids are plain ASCII: those take the
/// short way and allocate nothing.
pub(crate) fn printable(bytes: &[u8]) -> Option<String> {
    let ordinary = |byte: &u8| byte.is_ascii_graphic() && *byte != b'%';
    if bytes.iter().all(ordinary) && !matches!(bytes, b"." | b"..") {
        return None;
    }
    let mut form = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for shown in chunk.valid().chars() {
            if has_form_of_its_own(shown) {
                shown.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(byte, &mut form));
            } else {
                form.push(shown);
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(*byte, &mut form));
    }
    // As a part of a path they would mean another folder.
    if matches!(form.as_str(), "." | "..") {
        form = form.replace('.', "%2E");
    }
    // A space at either end would be lost in a page or a form.
    if form.starts_with(' ') {
        form.replace_range(..1, "%20");
    }
    if form.ends_with(' ') {
        form.replace_range(form.len() - 1.., "%20");
    }
    (form.as_bytes() != bytes).then_some(form)
}

/// The bytes of a printable form: `from_printable(printable(x))` is `x`. A `%` that is not
/// followed by two hexadecimal digits is literal. It reads more than `printable` writes, for
/// example lower-case digits.
pub(super) fn from_printable(form: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (form, mut bytes, mut at) = (form.as_bytes(), Vec::with_capacity(form.len()), 0);
    while let Some(byte) = form.get(at) {
        match (byte, digit(form.get(at + 1)), digit(form.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    bytes
}

/// Whether the character is escaped wherever it is. A space or a dot is escaped only in some
/// positions.
fn has_form_of_its_own(shown: char) -> bool {
    shown == '%' || is_invisible(shown)
}

/// Appends `%` and the two upper-case digits of a byte.
fn escape(byte: u8, form: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    form.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_percent_encoded_and_everything_else_stays() {
        for (bytes, form) in [
            ("a-1:b/c d", "a-1:b/c d"),
            ("日本 é", "日本 é"),
            ("50%", "50%25"),
            ("a%41", "a%2541"),
            ("a\nb\0", "a%0Ab%00"),
            (" ", "%20"),
            (" a ", "%20a%20"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("...", "..."),
            ("\u{200b}\u{2066}\u{ad}", "%E2%80%8B%E2%81%A6%C2%AD"),
            ("\u{202e}x\u{2028}", "%E2%80%AEx%E2%80%A8"),
        ] {
            assert_eq!(printable(bytes.as_bytes()).as_deref().unwrap_or(bytes), form);
        }
        assert_eq!(printable(b"\xff\xfe-\xc3").as_deref(), Some("%FF%FE-%C3"));
    }

    #[test]
    fn every_bytes_are_read_back_from_their_printable_form() {
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..20_000 {
            let choice = b"%%  ..aF0\n\x7f\xff\xe2\x80\xae\xc3\xa9";
            let length = random.usize(..8);
            let bytes: Vec<u8> = std::iter::repeat_with(|| match round % 2 {
                0 => random.u8(..),
                _ => choice[random.usize(..choice.len())],
            })
            .take(length)
            .collect();
            let form = printable(&bytes);
            let form = form.as_deref().unwrap_or_else(|| std::str::from_utf8(&bytes).unwrap());
            assert_eq!(from_printable(form), bytes, "{form:?}");
            assert!(!form.chars().any(char::is_control), "{form:?}");
        }
    }

    #[test]
    fn a_lone_percent_sign_stands_for_itself() {
        assert_eq!(from_printable("50%"), b"50%");
        assert_eq!(from_printable("%zz%4"), b"%zz%4");
        assert_eq!(from_printable("%ff%FF"), b"\xff\xff");
    }
}
