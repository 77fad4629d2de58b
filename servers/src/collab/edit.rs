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

/// Applies replacements one after the other.
pub fn replace(text: &str, edits: &[Replacement]) -> Result<String, Refusal> {
    let mut text = text.to_owned();
    for (index, edit) in edits.iter().enumerate() {
        let number = index + 1;
        if edit.old.is_empty() {
            return Err(refuse(format!("edit {number}: `old` is empty, so there is nothing to look for")));
        }
        text = match (text.matches(&edit.old).count(), edit.all.unwrap_or(false)) {
            (0, _) => return Err(not_found(number, &text, &edit.old)),
            (1, _) | (_, true) => text.replace(&edit.old, &edit.new),
            (count, false) => {
                let lines: Vec<String> = text
                    .match_indices(&edit.old)
                    .take(5)
                    .map(|(at, _)| line_of(&text, at).to_string())
                    .collect();
                let reason =
                    format!("edit {number}: `old` occurs {count} times (lines {})", lines.join(", "));
                return Err(refuse(reason).hint("give more of the text around it, or set `all`"));
            }
        };
    }
    Ok(text)
}

/// Applies a unified diff of one file. Each hunk must fit exactly; its line numbers may be off.
pub fn patch(text: &str, diff: &str) -> Result<String, Refusal> {
    let patch = diffy::Patch::from_str(diff)
        .map_err(|error| refuse(format!("`diff` is not a unified diff of one file: {error}")))?;
    if patch.hunks().is_empty() {
        return Err(refuse("`diff` has no hunk, so it changes nothing".to_owned()));
    }
    diffy::apply(text, &patch).map_err(|error| {
        refuse(format!("the diff does not fit the file: {error}"))
            .hint("read the file again: lines of context and removed lines must be as they are in it")
    })
}

/// Returns the unified diff between two texts.
pub fn diff(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    let mut options = diffy::DiffOptions::new();
    options.set_original_filename(old_name.to_owned()).set_modified_filename(new_name.to_owned());
    options.create_patch(old, new).to_string()
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
        let done = replace(text, &[edit("fn a", "fn z"), edit("fn z() {\n", "fn y() {\n")]).unwrap();
        assert!(done.starts_with("fn y() {\n    one();"));
        let all = Replacement { all: Some(true), ..edit("one", "two") };
        assert_eq!(replace(text, &[all]).unwrap().matches("two").count(), 2);
        for (old, part) in
            [("", "edit 1: `old` is empty"), ("one()", "2 times (lines 2, 5)"), ("three", "does not occur")]
        {
            let refusal = replace(text, &[edit(old, "x")]).unwrap_err();
            assert!(refusal.reason.contains(part), "{old}: {}", refusal.reason);
        }
        let spaced = replace(text, &[edit("  one();\n  }", "x")]).unwrap_err();
        assert!(spaced.hint.unwrap().contains("line 2"));
    }

    #[test]
    fn diffs_are_applied_and_made() {
        let old = "a\nb\nc\nd\ne\n";
        let new = "a\nb\nC\nd\ne\nf\n";
        let made = diff("a/x", "b/x", old, new);
        assert!(made.starts_with("--- a/x\n+++ b/x\n@@"), "{made}");
        assert_eq!(patch(old, &made).unwrap(), new);
        let moved = format!("0\n0\n{old}");
        assert_eq!(patch(&moved, &made).unwrap(), format!("0\n0\n{new}"));
        assert!(patch("a\nx\n", &made).unwrap_err().reason.contains("does not fit"));
        for wrong in ["", "nothing", "--- a\n+++ b\n"] {
            patch(old, wrong).unwrap_err();
        }
    }
}
