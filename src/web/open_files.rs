//! How many files this process may open. Each connection of a client takes one, and Rocket
//! has no limit of connections: with few, idle clients keep everybody out.

/// Fewer than this are taken by a browser or two that keep their connections, or by one
/// client that means harm.
const SMALL: u64 = 1024;

/// Warns once where there are few.
pub(super) fn warn_if_few() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(limit) = soft_limit(&limits).filter(|limit| *limit < SMALL) {
        crate::log::warn!(
            "this process may open {limit} files at a time (ulimit -n), and each connection \
             takes one: expected {SMALL} or more, and a reverse proxy that limits connections \
             (docs/guide/deploying.md)"
        );
    }
}

/// The limit in force, in the words of Linux; elsewhere there is nothing to read.
fn soft_limit(limits: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    row.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max processes             62987                62987                processes\n\
                    Max open files            300                  1048576              files\n";
        assert_eq!(soft_limit(text), Some(300));
        assert_eq!(soft_limit(&text.replace("300 ", "unlimited ")), None);
        assert_eq!(soft_limit(""), None);
    }
}
