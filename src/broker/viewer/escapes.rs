//! The escapes that texts are usually written with: those of JSON, of Rust's `{:?}`, of URLs and of
//! HTML. A secret that is quoted with them is still a secret.

/// How often a text is decoded: a JSON string may stand in a Rust string.
const MAX_DECODINGS: usize = 2;

/// A text as it is, and with its escapes decoded, in lower case.
pub(super) fn decoded_forms(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_lowercase()];
    let mut last = text.to_owned();
    for _ in 0..MAX_DECODINGS {
        let decoded = decoded(&last);
        if decoded == last {
            break;
        }
        forms.push(decoded.to_lowercase());
        last = decoded;
    }
    forms
}

/// Decodes what texts are usually encoded with: the escapes of JSON and of Rust's `{:?}`, the
/// percent signs of URLs, and the entities of HTML. What is none of these stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '%', '&']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let escape = backslash(rest).or_else(|| percent(rest)).or_else(|| entity(rest));
        let (decoded, length) = escape.unwrap_or((Decoded::Byte(rest.as_bytes()[0]), 1));
        match decoded {
            Decoded::Byte(byte) => bytes.push(byte),
            Decoded::Letter(letter) => {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What an escape stands for.
enum Decoded {
    /// A byte of a UTF-8 sequence.
    Byte(u8),
    Letter(char),
}

fn hex(digits: Option<&str>) -> Option<u32> {
    u32::from_str_radix(digits?, 16).ok()
}

/// `\n`, `\x41`, `\u0041`, `\ud83d\ude00` or `\u{41}` at the beginning, and its length.
fn backslash(text: &str) -> Option<(Decoded, usize)> {
    let escape = text.strip_prefix('\\')?;
    let kind = escape.chars().next()?;
    if kind == 'x' {
        let byte = u8::try_from(hex(escape.get(1..3))?).ok()?;
        return Some((Decoded::Byte(byte), 4));
    }
    if kind == 'u' {
        if let Some(braced) = escape.strip_prefix("u{") {
            let digits = braced.split_once('}')?.0;
            let letter = char::from_u32(hex(Some(digits))?)?;
            return Some((Decoded::Letter(letter), digits.len() + 4));
        }
        let first = hex(escape.get(1..5))?;
        let low = escape.get(5..).and_then(|more| more.strip_prefix("\\u"));
        let units = [first, low.and_then(|low| hex(low.get(..4))).unwrap_or_default()];
        let units = units.map(|unit| u16::try_from(unit).unwrap_or_default());
        let letter = char::decode_utf16(units).next()?.ok()?;
        return Some((Decoded::Letter(letter), if letter.len_utf16() == 2 { 12 } else { 6 }));
    }
    let letter = match kind {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '0' => '\0',
        other => other,
    };
    Some((Decoded::Letter(letter), 1 + kind.len_utf8()))
}

/// `%41` at the beginning, and its length.
fn percent(text: &str) -> Option<(Decoded, usize)> {
    let byte = u8::try_from(hex(text.strip_prefix('%')?.get(..2))?).ok()?;
    Some((Decoded::Byte(byte), 3))
}

/// `&lt;`, `&#60;` or `&#x3c;` at the beginning, and its length.
fn entity(text: &str) -> Option<(Decoded, usize)> {
    let name = text.strip_prefix('&')?.split_once(';')?.0;
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let code = name.strip_prefix('#')?;
            char::from_u32(match code.strip_prefix(['x', 'X']) {
                Some(digits) => hex(Some(digits))?,
                None => code.parse().ok()?,
            })?
        }
    };
    Some((Decoded::Letter(letter), name.len() + 2))
}
