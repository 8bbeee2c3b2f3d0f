//! The limit of open files. Each client connection uses one, and Rocket does not limit
//! connections, so with a low limit idle clients can lock everybody out.
//!
//! It is checked once at launch, and only on Linux.

/// A lower limit is used up by a few browsers that keep their connections, or by one hostile
/// client. 1,024 is also the usual soft limit of Linux, so the warning means that somebody
/// lowered it.
const MIN_OPEN_FILES: u64 = 1024;

/// Warns once if the limit is low.
pub(super) fn warn_if_few() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(limit) = soft_limit(&limits).filter(|limit| *limit < MIN_OPEN_FILES) {
        crate::log::warn!(
            "this process may open {limit} files at a time (ulimit -n), and each connection \
             uses one: expected {MIN_OPEN_FILES} or more, and a reverse proxy that limits connections \
             (docs/guide/deploying.md)"
        );
    }
}

/// The soft limit of `/proc/self/limits` on Linux; other systems have no such file.
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
