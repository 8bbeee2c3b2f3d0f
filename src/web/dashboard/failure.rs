//! What failures have in common: the error without the numbers, ids and quoted texts that differ
//! from job to job. It groups failures, and its longest part finds them in a search.

/// An error without the parts that differ from job to job: numbers, ids and quoted text.
pub(crate) fn fingerprint(error: &str) -> String {
    let mut print = String::new();
    let mut quote = None;
    for word in error.split_inclusive(|c: char| c.is_whitespace() || "\"'`".contains(c)) {
        let ends = word.chars().last().filter(|c| "\"'`".contains(*c));
        match (quote, ends) {
            (Some(open), Some(close)) if open == close => {
                quote = None;
                print.push('…');
                continue;
            }
            (Some(_), _) => continue,
            (None, Some(open)) => quote = Some(open),
            (None, None) => {}
        }
        if word.chars().any(|c| c.is_ascii_digit()) {
            print.push_str("# ")
        } else {
            print.push_str(word)
        }
    }
    print.chars().take(200).collect()
}

/// The longest part of a fingerprint that the error contains literally.
pub(crate) fn common(print: &str) -> String {
    let parts = print.split(['#', '…', '"', '\n', '\r']).map(str::trim);
    parts.max_by_key(|part| part.len()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_and_names_are_alike() {
        let alike = |a: &str, b: &str| assert_eq!(fingerprint(a), fingerprint(b));
        alike("order 7: the shop is closed", "order 8123: the shop is closed");
        alike("no user \"a b\" here", "no user \"c\" here");
        assert_ne!(fingerprint("timed out"), fingerprint("refused"));
        // An open quote takes the rest with it; nothing panics.
        fingerprint("it's \"");
        fingerprint("日本語 7 エラー");
        assert_eq!(common(&fingerprint("order 7: the shop is closed")), "the shop is closed");
        assert_eq!(common("# …"), "");
    }
}
