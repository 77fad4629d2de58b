//! Lease patterns: `?` is one character of a name, `*` any number of them, `**` as a whole name any number
//! of folders.

/// Returns whether one path can match both patterns. A path without wildcards matches itself.
pub fn overlap(one: &str, other: &str) -> bool {
    if !one.contains(['*', '?']) && !other.contains(['*', '?']) {
        return one == other;
    }
    let one: Vec<&str> = one.split('/').collect();
    let other: Vec<&str> = other.split('/').collect();
    meet(
        &one,
        &other,
        |name| *name == "**",
        |one, other| {
            let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
            let equal = |a: &char, b: &char| a == b || *a == '?' || *b == '?';
            meet(&one, &other, |character| *character == '*', equal)
        },
    )
}

/// Returns whether two lists can be the same, where an item that is `many` stands for any number of items.
fn meet<T>(one: &[T], other: &[T], many: impl Fn(&T) -> bool, equal: impl Fn(&T, &T) -> bool) -> bool {
    let may_be_empty = |rest: &[T]| rest.iter().all(&many);
    // `row[place]`: whether the rest of `one` and `other[place..]` can be the same.
    let mut row: Vec<bool> = (0..=other.len()).map(|place| may_be_empty(&other[place..])).collect();
    for (at, item) in one.iter().enumerate().rev() {
        let mut next = vec![may_be_empty(&one[at..]); other.len() + 1];
        for (place, beside) in other.iter().enumerate().rev() {
            next[place] = match many(item) || many(beside) {
                // It stands for nothing here, or takes the item of the other list.
                true => row[place] || next[place + 1],
                false => row[place + 1] && equal(item, beside),
            };
        }
        row = next;
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn patterns_overlap_where_one_path_matches_both() {
        for (one, other, expected) in [
            ("a.txt", "a.txt", true),
            ("a.txt", "b.txt", false),
            ("src/*.rs", "src/main.rs", true),
            ("src/*.rs", "src/a/main.rs", false),
            ("src/**", "src/a/main.rs", true),
            ("src/**", "src", true),
            ("src/**", "srcs/a", false),
            ("**", "any/thing", true),
            ("**/*.rs", "main.rs", true),
            ("**/*.rs", "a/b/main.py", false),
            ("a*", "*b", true),
            ("a*c", "*b", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**/x/**", "a/*/b", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "*/b/c/?", true),
            ("a/**/z", "b/**", false),
            ("*", "a/b", false),
            ("", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
