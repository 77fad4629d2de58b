//! Edits of a text file: search and replace, or a unified diff. An edit that does not fit exactly is refused
//! with what is there instead.

use protocol::{Code, Refusal};
use serde::Deserialize;

/// One replacement. `old` must occur once, unless `all` is set.
#[derive(Deserialize, Debug)]
pub struct Replacement {
    #[serde(alias = "old_text", alias = "old_string", alias = "search")]
    pub old: String,
    #[serde(alias = "new_text", alias = "new_string", alias = "replace")]
    pub new: String,
    #[serde(alias = "replace_all")]
    pub all: Option<bool>,
}

/// Most replacements of one edit; each goes over the whole text.
const MOST: usize = 200;

/// Most lines of both sides between the first and the last difference: comparing takes up to the square of their
/// number in steps, a tenth of a second for so many.
const COMPARED: usize = 10_000;

/// Largest product of the lines of a file and the old lines of a diff, each of which may be looked for everywhere.
const SEARCHED: usize = 100_000_000;

/// Applies replacements one after the other. No text on the way is longer than `most` bytes.
pub fn replace(text: &str, edits: &[Replacement], most: usize) -> Result<String, Refusal> {
    if edits.len() > MOST {
        return Err(refuse(format!("{} edits are more than the {MOST} of one call", edits.len())));
    }
    let mut text = text.to_owned();
    for (index, edit) in edits.iter().enumerate() {
        let number = index + 1;
        if edit.old.is_empty() {
            return Err(refuse(format!("edit {number}: `old` is empty, so there is nothing to look for")));
        }
        let count = text.matches(&edit.old).count();
        match (count, edit.all.unwrap_or(false)) {
            (0, _) => return Err(not_found(number, &text, &edit.old)),
            (1, _) | (_, true) => {}
            (_, false) => {
                let lines = text.match_indices(&edit.old).take(5).map(|(at, _)| line_of(&text, at));
                return Err(ambiguous(&format!("edit {number}: `old`"), count, lines)
                    .hint("give more of the text around it, or set `all`"));
            }
        }
        let grown =
            (text.len() - count * edit.old.len()).saturating_add(count.saturating_mul(edit.new.len()));
        if grown > most {
            return Err(super::too_large(grown, most));
        }
        text = text.replace(&edit.old, &edit.new);
    }
    Ok(text)
}

/// Applies a unified diff of one file. Each hunk must fit exactly; its line numbers may be off where its lines
/// occur once.
pub fn patch(text: &str, diff: &str) -> Result<String, Refusal> {
    let patch = diffy::Patch::from_str(diff)
        .map_err(|error| refuse(format!("`diff` is not a unified diff of one file: {error}")))?;
    if patch.hunks().is_empty() {
        return Err(refuse("`diff` has no hunk, so it changes nothing".to_owned()));
    }
    check_counts(diff, patch.hunks())?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let hunks: Vec<Vec<&str>> = patch.hunks().iter().map(old_lines).collect();
    let looked_for: usize = hunks.iter().map(Vec::len).sum();
    if lines.len().saturating_mul(looked_for) > SEARCHED {
        return Err(refuse(format!(
            "the diff has {looked_for} old lines and the file {}, too many to look for each",
            lines.len()
        ))
        .hint("send fewer hunks at once, or `edits`"));
    }
    for (index, (hunk, old)) in patch.hunks().iter().zip(&hunks).enumerate() {
        check_place(index + 1, &lines, hunk.old_range().start(), old)?;
    }
    diffy::apply(text, &patch).map_err(|error| {
        refuse(format!("the diff does not fit the file: {error}"))
            .hint("read the file again: lines of context and removed lines must be as they are in it")
    })
}

/// Checks that no hunk has more lines than its header counts: the library leaves those out.
fn check_counts(diff: &str, hunks: &[diffy::Hunk<'_, str>]) -> Result<(), Refusal> {
    let mut hunks = hunks.iter();
    let (mut number, mut old, mut new) = (0, 0, 0);
    for line in diff.lines() {
        let (removed, added) = match line.as_bytes().first() {
            Some(b'@') => {
                number += 1;
                (old, new) =
                    hunks.next().map_or((0, 0), |hunk| (hunk.old_range().len(), hunk.new_range().len()));
                continue;
            }
            // The names of the file, and the end of a diff in a letter.
            _ if number == 0 => continue,
            _ if line == "-- " && old == 0 && new == 0 => break,
            Some(b'-') => (1, 0),
            Some(b'+') => (0, 1),
            Some(b' ') => (1, 1),
            // Some programs cut the space of an empty line of context.
            None if old > 0 && new > 0 => (1, 1),
            _ => continue,
        };
        let (Some(old_left), Some(new_left)) = (old.checked_sub(removed), new.checked_sub(added)) else {
            return Err(refuse(format!("hunk {number} has more lines than its `@@` line counts"))
                .hint("correct the numbers of lines, or use `edits`"));
        };
        (old, new) = (old_left, new_left);
    }
    Ok(())
}

fn old_lines<'d>(hunk: &diffy::Hunk<'d, str>) -> Vec<&'d str> {
    let old = hunk.lines().iter().filter_map(|line| match line {
        diffy::Line::Context(line) | diffy::Line::Delete(line) => Some(*line),
        diffy::Line::Insert(_) => None,
    });
    old.collect()
}

/// Checks that a hunk has one place: the one of its line number, or the only one.
fn check_place(number: usize, lines: &[&str], stated: usize, old: &[&str]) -> Result<(), Refusal> {
    if old.is_empty() {
        return match lines.is_empty() {
            true => Ok(()),
            false => Err(refuse(format!("hunk {number} has neither context nor removed lines"))
                .hint("give some lines of context around what is added")),
        };
    }
    if lines.get(stated.saturating_sub(1)..).is_some_and(|lines| lines.starts_with(old)) {
        return Ok(());
    }
    let places: Vec<usize> = lines
        .windows(old.len())
        .enumerate()
        .filter(|(_, lines)| *lines == old)
        .map(|(at, _)| at + 1)
        .collect();
    match places.len() {
        // The library says what does not fit.
        0 | 1 => Ok(()),
        count => Err(ambiguous(&format!("the old lines of hunk {number}"), count, places.into_iter())
            .hint("give more lines of context, or the right line number")),
    }
}

fn ambiguous(what: &str, count: usize, lines: impl Iterator<Item = usize>) -> Refusal {
    let lines: Vec<String> = lines.take(5).map(|line| line.to_string()).collect();
    refuse(format!("{what} occurs {count} times (lines {})", lines.join(", ")))
}

/// Returns the unified diff between two texts; `None` if too many lines lie between their differences.
pub fn diff(old_name: &str, new_name: &str, old: &str, new: &str) -> Option<String> {
    let (olds, news): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let before = olds.iter().zip(&news).take_while(|(old, new)| old == new).count();
    let (olds, news) = (&olds[before..], &news[before..]);
    let after = olds.iter().rev().zip(news.iter().rev()).take_while(|(old, new)| old == new).count();
    if olds.len() + news.len() - 2 * after > COMPARED {
        return None;
    }
    let mut options = diffy::DiffOptions::new();
    options.set_original_filename(old_name.to_owned()).set_modified_filename(new_name.to_owned());
    Some(options.create_patch(old, new).to_string())
}

fn not_found(number: usize, text: &str, old: &str) -> Refusal {
    let refusal = refuse(format!("edit {number}: `old` does not occur in the file"));
    let first = old.lines().map(str::trim).find(|line| !line.is_empty());
    let near = first.and_then(|first| {
        let mut lines = text.lines().enumerate();
        lines.find(|(_, line)| line.trim() == first).map(|(index, _)| index + 1)
    });
    match near {
        Some(line) => refusal.hint(format!(
            "line {line} has its first line with other white space or other lines after it: read the file again"
        )),
        None => refusal.hint("read the file again: the text must be the same, with all white space"),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn refuse(reason: String) -> Refusal {
    Refusal::new(Code::ValidationFailed, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(old: &str, new: &str) -> Replacement {
        Replacement { old: old.to_owned(), new: new.to_owned(), all: None }
    }

    #[test]
    fn replacements_fit_exactly_or_say_why_not() {
        let text = "fn a() {\n    one();\n}\nfn b() {\n    one();\n}\n";
        let done = replace(text, &[edit("fn a", "fn z"), edit("fn z() {\n", "fn y() {\n")], 999).unwrap();
        assert!(done.starts_with("fn y() {\n    one();"));
        let all = Replacement { all: Some(true), ..edit("one", "two") };
        assert_eq!(replace(text, &[all], 999).unwrap().matches("two").count(), 2);
        for (old, part) in
            [("", "edit 1: `old` is empty"), ("one()", "2 times (lines 2, 5)"), ("three", "does not occur")]
        {
            let refusal = replace(text, &[edit(old, "x")], 999).unwrap_err();
            assert!(refusal.reason.contains(part), "{old}: {}", refusal.reason);
        }
        let spaced = replace(text, &[edit("  one();\n  }", "x")], 999).unwrap_err();
        assert!(spaced.hint.unwrap().contains("line 2"));
    }

    #[test]
    fn diffs_are_applied_and_made() {
        let old = "a\nb\nc\nd\ne\n";
        let new = "a\nb\nC\nd\ne\nf\n";
        let made = diff("a/x", "b/x", old, new).unwrap();
        assert!(made.starts_with("--- a/x\n+++ b/x\n@@"), "{made}");
        assert_eq!(patch(old, &made).unwrap(), new);
        let moved = format!("0\n0\n{old}");
        assert_eq!(patch(&moved, &made).unwrap(), format!("0\n0\n{new}"));
        assert!(patch("a\nx\n", &made).unwrap_err().reason.contains("does not fit"));
        for wrong in ["", "nothing", "--- a\n+++ b\n"] {
            patch(old, wrong).unwrap_err();
        }
    }

    #[test]
    fn edits_have_a_size() {
        let doubling = || Replacement { all: Some(true), ..edit("a", "aa") };
        let edits: Vec<Replacement> = (0..60).map(|_| doubling()).collect();
        assert_eq!(replace("a", &edits, 1 << 20).unwrap_err().code, Code::BodyTooLarge);
        assert_eq!(replace("a", &edits[..10], 1024).unwrap().len(), 1024);
        let many: Vec<Replacement> = (0..201).map(|_| edit("a", "a")).collect();
        assert!(replace("a", &many, 9).unwrap_err().reason.contains("200"));
        let (old, new) = ("a\n".repeat(100_000), "b\n".repeat(100_000));
        assert_eq!(diff("a", "b", &old, &new), None);
        assert_eq!(diff("a", "b", "x\n", &new), None, "one line for many, which costs as much");
        let grown = format!("{old}b\n{old}");
        assert!(diff("a", "b", &format!("{old}{old}"), &grown).is_some_and(|diff| diff.len() < 200));
    }

    #[test]
    fn what_a_search_would_take_is_bounded() {
        let (text, lines) = ("a\n".repeat(200_000), "-a\n".repeat(1_000));
        let diff = format!("@@ -7,1001 +7 @@\n{lines}-b\n+c\n");
        assert!(patch(&text, &diff).unwrap_err().reason.contains("1001 old lines"));
        assert!(patch("a\n", "@@ -1 +1 @@\n-a\n+A\n-- \n2.47\n").is_ok(), "the end of a letter");
    }

    #[test]
    fn diffs_have_one_place_and_all_their_lines() {
        for (text, hunk, part) in [
            ("a\n", "@@ -1 +1 @@\n-a\n+A\n+B\n", "hunk 1 has more lines"),
            ("a\nb\n", "@@ -1 +1 @@\n-a\n+A\n b\n", "hunk 1 has more lines"),
            ("x\na\nx\na\n", "@@ -9 +9 @@\n-a\n+A\n", "hunk 1 occurs 2 times (lines 2, 4)"),
            ("a\nb", "@@ -2,0 +3 @@\n+c\n", "neither context nor removed"),
        ] {
            let refusal = patch(text, hunk).unwrap_err();
            assert!(refusal.reason.contains(part), "{hunk}: {}", refusal.reason);
        }
        for (text, hunk, new) in [
            ("", "@@ -0,0 +1,2 @@\n+a\n+b\n", "a\nb\n"),
            ("x\na\nx\na\n", "@@ -4 +4 @@\n-a\n+A\n", "x\na\nx\nA\n"),
            ("x\na\n", "@@ -9 +9 @@\n-a\n+A\n", "x\nA\n"),
            ("a\n\nb\n", "@@ -1,3 +1,3 @@\n a\n\n-b\n+B\n", "a\n\nB\n"),
        ] {
            assert_eq!(patch(text, hunk).unwrap(), new, "{hunk}");
        }
    }
}
