//! JSON as a tree whose branches open and close, without a script.
//!
//! It is made from the text, not from parsed values: every digit, key and string stands as it is
//! stored, in its order, and twice if it is there twice. The number of nodes is bounded, because a
//! payload comes from outside.

use maud::{Markup, html};
use serde::de::IgnoredAny;

use super::parts::cut;

/// Maximum nodes of a tree.
const MAX_NODES: usize = 2_000;

/// The longest value or key that is shown whole, in characters.
const MAX_CHARS: usize = 2_000;

/// Branches down to this depth are open at first, unless they have more than so many nodes.
const OPEN_DEPTH: usize = 2;
const MAX_OPEN: usize = 50;

/// A value within a text.
enum Node<'a> {
    /// A string, a number or a word, as it is written.
    Plain(&'a str),
    /// The values of an array.
    List(Vec<Node<'a>>),
    /// The keys of an object, as they are written, and their values.
    Map(Vec<(&'a str, Node<'a>)>),
}

impl Node<'_> {
    fn len(&self) -> usize {
        match self {
            Node::Plain(_) => 0,
            Node::List(all) => all.len(),
            Node::Map(all) => all.len(),
        }
    }

    /// Whether a value in it has values itself.
    fn is_nested(&self) -> bool {
        match self {
            Node::Plain(_) => false,
            Node::List(all) => all.iter().any(|one| one.len() > 0),
            Node::Map(all) => all.iter().any(|(_, one)| one.len() > 0),
        }
    }
}

/// The tree of a text. `None` for what is no JSON, for JSON that needs no tree because nothing in it
/// is nested, and for more than [`MAX_NODES`] values.
pub(super) fn tree(text: &str) -> Option<Markup> {
    // serde_json bounds the depth.
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let root = Reader { rest: text, left: MAX_NODES }.node()?;
    root.is_nested().then(|| html! { ul.tree { (draw(None, &root, "", 0)) } })
}

/// Reads valid JSON. What it cannot read ends it, and there is no tree.
struct Reader<'a> {
    rest: &'a str,
    left: usize,
}

impl<'a> Reader<'a> {
    fn node(&mut self) -> Option<Node<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.skip_space();
        match self.rest.as_bytes().first()? {
            b'{' => {
                let mut all = Vec::new();
                self.each(b'}', |reader| {
                    let key = reader.string()?;
                    reader.skip_space();
                    reader.rest = reader.rest.strip_prefix(':')?;
                    all.push((key, reader.node()?));
                    Some(())
                })?;
                Some(Node::Map(all))
            }
            b'[' => {
                let mut all = Vec::new();
                self.each(b']', |reader| {
                    all.push(reader.node()?);
                    Some(())
                })?;
                Some(Node::List(all))
            }
            b'"' => self.string().map(Node::Plain),
            _ => {
                let ends = |c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace();
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                Some(Node::Plain(self.take(end)))
            }
        }
    }

    /// Reads what stands between brackets, of which the first is next.
    fn each(&mut self, close: u8, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(1);
        loop {
            self.skip_space();
            match *self.rest.as_bytes().first()? {
                end if end == close => {
                    self.take(1);
                    return Some(());
                }
                b',' => {
                    self.take(1);
                    self.skip_space();
                }
                _ => {}
            }
            read(self)?;
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let mut escaped = false;
        let inner = self.rest.strip_prefix('"')?;
        let end = inner.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        Some(self.take(end + 2))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }
}

/// A line with its value, or a branch. The path tells the script which branches are open.
fn draw(name: Option<&str>, node: &Node<'_>, path: &str, depth: usize) -> Markup {
    let label = html! { @if let Some(name) = name { span.key { (cut(name, MAX_CHARS)) } ": " } };
    let brackets = if matches!(node, Node::List(_)) { ("[", "]") } else { ("{", "}") };
    let inner = |nth: usize| format!("{path}/{nth}");
    html! {
        li {
            @match node {
                Node::Plain(text) => { (label) code { (cut(text, MAX_CHARS)) } }
                one if one.len() == 0 => { (label) code { (brackets.0) (brackets.1) } }
                one => {
                    details open[depth < OPEN_DEPTH && one.len() <= MAX_OPEN] data-key=(path) {
                        summary { (label) span.count { (brackets.0) (one.len()) (brackets.1) } }
                        ul.tree {
                            @match one {
                                Node::List(all) => @for (nth, one) in all.iter().enumerate() {
                                    (draw(Some(&nth.to_string()), one, &inner(nth), depth + 1))
                                }
                                Node::Map(all) => @for (nth, (key, one)) in all.iter().enumerate() {
                                    (draw(Some(unquoted(key)), one, &inner(nth), depth + 1))
                                }
                                Node::Plain(_) => {}
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A key without its own quotes.
fn unquoted(key: &str) -> &str {
    key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a tree, without its tags.
    fn text(json: &str) -> Option<String> {
        let mut text = String::new();
        for part in tree(json)?.into_string().split('<').skip(1) {
            text.push_str(part.split_once('>').map_or("", |(_, text)| text));
            text.push(if part.starts_with("/li") || part.starts_with("/summary") {
                '|'
            } else {
                '~'
            });
        }
        text.retain(|c| c != '~');
        let parts: Vec<_> = text.split('|').filter(|part| !part.is_empty()).collect();
        Some(parts.join("|"))
    }

    #[test]
    fn a_tree_has_every_digit_and_key_in_its_order() {
        let json =
            r#"{"b": [1.00, 12345678901234567890123, {"x,]\"": -0e9}], "a": {}, "a": null }"#;
        let expected = "{3}|b: [3]|0: 1.00|1: 12345678901234567890123|2: {1}|x,]\\&quot;: -0e9|\
                        a: {}|a: null";
        assert_eq!(text(json).unwrap(), expected);
    }

    #[test]
    fn what_needs_no_tree_has_none() {
        for json in ["{\"a\":1,\"b\":[]}", "[1,2]", "7", "{", "{\"a\":[1}", ""] {
            assert!(tree(json).is_none(), "{json}");
        }
        let many = format!("[[{}0]]", "0,".repeat(MAX_NODES));
        assert!(tree(&many).is_none());
        assert!(tree(&("[".repeat(30_000) + &"]".repeat(30_000))).is_none());
    }

    #[test]
    fn what_a_payload_says_is_text() {
        let drawn = tree("{\"<b>\":[{\"<i>\":\"<script>\"}]}").unwrap().into_string();
        assert!(!drawn.contains("<b>") && !drawn.contains("<i>") && !drawn.contains("<script>"));
    }
}
