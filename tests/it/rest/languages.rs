//! Every page in every language: what is not translated is found in the page itself.

use super::*;

/// Words that are the same in every language: names of products and of what is typed as it is, and
/// what these tests' jobs are called.
const NAMES: [&str; 30] = [
    "redis", "api", "json", "utc", "local", "url", "kib", "mib", "gib", "enter", "esc", "english",
    "default", "mail", "welcome", "long", "queue", "state", "type", "id", "error", "since",
    "until", "europe", "asia", "tokyo", "version", "demo", "delay", "print",
];

/// The text of a page outside of what shows data as it is stored.
fn texts(page: &str) -> String {
    const DATA: [&str; 7] = ["script", "code", "pre", "textarea", "time", "kbd", "datalist"];
    let (mut texts, mut rest, mut within) = (String::new(), page, None);
    while let Some(at) = rest.find('<') {
        if within.is_none() {
            texts.push_str(&rest[..at]);
            texts.push('\n');
        }
        let end = rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
        let tag = &rest[at + 1..end - 1];
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        match (within, tag.strip_prefix('/')) {
            (None, None) if DATA.contains(&name) => within = Some(name),
            (Some(open), Some(closed)) if open == closed => within = None,
            _ => {}
        }
        rest = &rest[end..];
    }
    texts
}

#[tokio::test]
async fn no_page_has_a_word_of_another_language() {
    let client = still().await;
    enqueue(&client, 1, "?delay_seconds=600").await;
    let pages = routes().into_iter().filter(|((method, path), who)| {
        let bare = path.split('?').next().unwrap();
        let is_page = bare.starts_with("/ui") && !bare.contains('<') && bare != "/ui/events";
        is_page && method == "GET" && *who == For::Viewers
    });
    let mut looked = 0;
    for ((_, path), _) in pages {
        let path = path.split('?').next().unwrap();
        let request = client
            .get(format!("{BASE}{path}"))
            .header(Header::new("Role", "operator"))
            .header(Header::new("Accept-Language", "ja"));
        let answer = request.dispatch().await;
        if answer.status() != Status::Ok {
            continue;
        }
        looked += 1;
        let page = answer.into_string().await.unwrap();
        assert!(page.contains("<html lang=\"ja\""), "{path}: {page}");
        for line in texts(&page).lines() {
            let words =
                line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 2);
            let unknown: Vec<&str> =
                words.filter(|word| !NAMES.contains(&word.to_lowercase().as_str())).collect();
            assert!(unknown.len() < 2, "{path}: {line:?} is not translated: {unknown:?}");
        }
    }
    assert!(looked >= 8, "{looked}");
}
