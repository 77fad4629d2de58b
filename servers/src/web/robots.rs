//! Rules of a `robots.txt` for one crawler (RFC 9309): the longest pattern that matches a path decides, and
//! an `allow` before a `disallow` of the same length.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time for which rules are kept.
const KEPT: Duration = Duration::from_secs(3600);

/// Most hosts whose rules are kept.
const MOST_HOSTS: usize = 100;

/// Bytes of a `robots.txt` that are read (RFC 9309, 2.5: at least 500 KiB).
pub const LIMIT: usize = 500 * 1024;

/// Rules for one crawler.
#[derive(Default, Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    allow: bool,
    pattern: String,
}

impl Rules {
    /// Reads the groups of a file that name the crawler, or those of `*` when none does.
    pub fn parse(text: &str, product: &str) -> Self {
        let (mut own, mut general, mut named) = (Vec::new(), Vec::new(), false);
        let (mut for_us, mut for_all, mut in_rules) = (false, false, true);
        for line in text.trim_start_matches('\u{feff}').split(['\n', '\r']) {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim(), value.trim());
            if key.eq_ignore_ascii_case("user-agent") {
                if in_rules {
                    (for_us, for_all, in_rules) = (false, false, false);
                }
                let end = value.find(|c: char| !is_product(c)).unwrap_or(value.len());
                for_all |= value == "*";
                for_us |= end > 0 && value[..end].eq_ignore_ascii_case(product);
                named |= for_us;
                continue;
            }
            let allow = key.eq_ignore_ascii_case("allow");
            if !allow && !key.eq_ignore_ascii_case("disallow") {
                continue;
            }
            in_rules = true;
            if value.is_empty() {
                continue;
            }
            let rule = Rule { allow, pattern: normal(value) };
            if for_us {
                own.push(rule.clone());
            }
            if for_all {
                general.push(rule);
            }
        }
        Self(if named { own } else { general })
    }

    /// Returns whether a path with its query may be fetched.
    pub fn allow(&self, path: &str) -> bool {
        let path = normal(path);
        let matching = self.0.iter().filter(|rule| matches(&rule.pattern, &path));
        matching.max_by_key(|rule| (rule.pattern.len(), rule.allow)).is_none_or(|rule| rule.allow)
    }
}

/// Rules of the hosts that were asked last.
#[derive(Default)]
pub struct Cache(Mutex<HashMap<String, (Instant, Arc<Rules>)>>);

impl Cache {
    pub fn find(&self, origin: &str) -> Option<Arc<Rules>> {
        let kept = self.0.lock();
        kept.get(origin).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, rules)| Arc::clone(rules))
    }

    /// Keeps rules in the place of the oldest when there are too many.
    pub fn keep(&self, origin: String, rules: Rules) -> Arc<Rules> {
        let rules = Arc::new(rules);
        let mut kept = self.0.lock();
        if kept.len() >= MOST_HOSTS && !kept.contains_key(&origin) {
            let oldest = kept.iter().min_by_key(|(_, (since, _))| *since).map(|(origin, _)| origin.clone());
            oldest.and_then(|origin| kept.remove(&origin));
        }
        kept.insert(origin, (Instant::now(), Arc::clone(&rules)));
        rules
    }
}

/// Returns whether a character may stand in a crawler's product token.
pub fn is_product(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '-'
}

/// Matches a pattern from the path's beginning; `*` is any text, and `$` at the end the path's end.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, to_end) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut parts = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        // The part before is looked for now that it is not the last.
        if let Some(before) = last.replace(part) {
            let Some(at) = rest.find(before) else { return false };
            rest = &rest[at + before.len()..];
        }
    }
    match (last, to_end) {
        (None, true) => rest.is_empty(),
        (None, false) => true,
        (Some(last), true) => rest.ends_with(last),
        (Some(last), false) => rest.contains(last),
    }
}

/// Returns a path in one notation of percent encoding (RFC 9309, 2.2.2): unreserved characters plain, others
/// beyond ASCII encoded, and hexadecimal digits in capitals.
fn normal(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = String::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        let encoded = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        let encoded = encoded.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let encoded = encoded.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let byte = encoded.unwrap_or(bytes[at]);
        let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_unreserved || (encoded.is_none() && byte.is_ascii_graphic()) {
            text.push(char::from(byte));
        } else {
            // A string takes every write.
            let _ = write!(text, "%{byte:02X}");
        }
        at += if encoded.is_some() { 3 } else { 1 };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_crawler_decides() {
        let text = "\u{feff}# a comment\r\nUser-Agent: Other\r\nUser-Agent: TRUNKLINE/1.0 # us\r\n\
                    Disallow: /private # no\r\nAllow: /private/open\r\nSitemap: https://example.com/x\r\n\r\n\
                    User-agent: *\nDisallow: /\n\nuser-agent:trunkline\ndisallow:/more";
        let rules = Rules::parse(text, "trunkline");
        for (path, allowed) in [
            ("/", true),
            ("/private", false),
            ("/private/x", false),
            ("/private/open/x", true),
            ("/more?x", false),
        ] {
            assert_eq!(rules.allow(path), allowed, "{path}");
        }
        assert!(!Rules::parse(text, "another").allow("/anything"));
        assert!(Rules::parse("User-agent: other\nDisallow: /", "trunkline").allow("/"));
        assert!(Rules::parse("User-agent: *\nDisallow:", "trunkline").allow("/"));
        assert!(Rules::parse("<html>User-agent</html>", "trunkline").allow("/"));
        let empty_own = "User-agent: *\nDisallow: /\nUser-agent: trunkline\nAllow: /";
        assert!(Rules::parse(empty_own, "trunkline").allow("/"));
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = Cache::default();
        for host in 0..3 * MOST_HOSTS {
            cache.keep(format!("https://{host}.example"), Rules::default());
        }
        assert_eq!(cache.0.lock().len(), MOST_HOSTS);
        assert!(cache.find("https://299.example").is_some() && cache.find("https://0.example").is_none());
    }

    #[test]
    fn patterns_match_as_the_rfc_says() {
        for (pattern, path, matching) in [
            ("/fish", "/fish.html", true),
            ("/fish", "/Fish", false),
            ("/fish*", "/fishheads", true),
            ("/*.php", "/a/b.php?x=1", true),
            ("/*.php$", "/a/b.php?x=1", false),
            ("/*.php$", "/a.php/b.php", true),
            ("/a*b*c$", "/axxbxxc", true),
            ("/a*b*c$", "/axxbc", true),
            ("/a*bb$", "/ab", false),
            ("/x$", "/x", true),
            ("/x$", "/xy", false),
            ("/a%3cd", "/a%3Cd", true),
            ("/%7ejoe", "/~joe", true),
            ("/ä", "/%C3%A4", true),
            ("/a%2fb", "/a/b", false),
        ] {
            let rules = Rules::parse(&format!("User-agent: *\nDisallow: {pattern}"), "trunkline");
            assert_eq!(!rules.allow(path), matching, "{pattern} {path}");
        }
        let longest = Rules::parse("User-agent: *\nDisallow: /a\nAllow: /a/b\nDisallow: /a/b/c", "trunkline");
        assert!(longest.allow("/a/b") && !longest.allow("/a/b/c") && !longest.allow("/a"));
        let equal = Rules::parse("User-agent: *\nDisallow: /page\nAllow: /page", "trunkline");
        assert!(equal.allow("/page"));
    }
}
