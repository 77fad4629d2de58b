//! HTML document as Markdown: its main content, or all of it. Documents are bounded in depth, size and time,
//! because the parser and the serializers recurse or scan once per level.

use std::time::{Duration, Instant};

use dom_query::Document;
use dom_smoothie::{Config, Readability, TextMode};
use html5ever::tendril::TendrilSink;
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};
use proxy::egress::Url;

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 200;

/// Most nodes of a document.
const MAX_NODES: usize = 300_000;

/// Time limit of parsing; a usual page of 5 MB takes a tenth of a second.
const PARSING: Duration = Duration::from_secs(3);

/// Bytes that are parsed between two looks at the limits.
const STEP: usize = 8 * 1024;

/// Text in which a page was made readable.
pub struct Readable {
    pub title: Option<String>,
    pub markdown: String,
    /// True if it is the main content alone.
    pub main: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("the page nests elements more than {MAX_DEPTH} deep: read its source with fetch_url")]
    TooDeep,
    #[error("the page has more than {MAX_NODES} elements and texts: read its source with fetch_url")]
    TooManyNodes,
    #[error("parsing the page takes too long: read its source with fetch_url")]
    TooSlow,
    #[error("the request was given up")]
    Cancelled,
}

/// Returns the main content of a page as Markdown, or the whole page where none is found or all is wanted.
pub fn readable(
    html: &str,
    url: &Url,
    whole: bool,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Readable, PageError> {
    let document = parse(html, is_cancelled)?;
    let title = document.select_single("title").text();
    let title =
        Some(title.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|title| !title.is_empty());
    if !whole && let Some(markdown) = main_content(document.clone(), url) {
        return Ok(Readable { title, markdown, main: true });
    }
    make_absolute(&document, url);
    let markdown = document.md(None).trim().to_owned();
    Ok(Readable { title, markdown, main: false })
}

fn main_content(document: Document, url: &Url) -> Option<String> {
    // JSON-LD holds names and dates, which are not used here.
    let config = Config { disable_json_ld: true, text_mode: TextMode::Markdown, ..Config::default() };
    let mut readability = Readability::with_document(document, Some(url.as_str()), Some(config)).ok()?;
    let article = readability.parse().ok()?;
    Some(article.text_content.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Parses a document in steps, so that one that grows slow is given up.
fn parse(html: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Document, PageError> {
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let options = ParseOpts { tree_builder, ..ParseOpts::default() };
    let mut parser = parse_document(Document::default(), options);
    let started = Instant::now();
    let mut rest = html;
    while !rest.is_empty() {
        let mut end = rest.len().min(STEP);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (step, after) = rest.split_at(end);
        parser.process(step.into());
        rest = after;
        let so_far = &parser.tokenizer.sink.sink;
        if so_far.tree.len() > MAX_NODES {
            return Err(PageError::TooManyNodes);
        }
        // The last children are open: a usual document that grows deep is found here, any other at the end.
        if std::iter::successors(Some(so_far.root()), |node| node.last_child()).nth(MAX_DEPTH + 1).is_some() {
            return Err(PageError::TooDeep);
        }
        if is_cancelled() {
            return Err(PageError::Cancelled);
        }
        if started.elapsed() > PARSING {
            return Err(PageError::TooSlow);
        }
    }
    let document = parser.finish();
    if is_deeper_than(&document, MAX_DEPTH) { Err(PageError::TooDeep) } else { Ok(document) }
}

/// Walks the tree without recursion.
fn is_deeper_than(document: &Document, most: usize) -> bool {
    let mut open = vec![(document.root(), 0)];
    while let Some((node, depth)) = open.pop() {
        if depth > most {
            return true;
        }
        open.extend(node.children_it(false).map(|child| (child, depth + 1)));
    }
    false
}

/// Makes the addresses of links and images absolute.
fn make_absolute(document: &Document, url: &Url) {
    for (selector, attribute) in [("a[href]", "href"), ("img[src]", "src")] {
        for node in document.select(selector).nodes() {
            if let Some(absolute) = node.attr(attribute).and_then(|value| url.join(&value).ok()) {
                node.set_attr(attribute, absolute.as_str());
            }
        }
    }
}

/// Removes characters that no reader of a page sees but a model does, and control characters. Returns the
/// text and how many there were.
pub fn without_invisible(text: &str) -> (String, usize) {
    let is_invisible = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
            || matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
    };
    let kept: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    let removed = text.chars().filter(|c| is_invisible(*c) && *c != '\r').count();
    (kept, removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str, whole: bool) -> Result<Readable, PageError> {
        let url = Url::parse("https://example.com/dir/page").expect("a URL");
        readable(html, &url, whole, &|| false)
    }

    const PARAGRAPH: &str = "<p>A paragraph with a <b>bold</b> word, some commas, and enough text that it counts \
                             as content of the page, which a navigation bar does not have.</p>";

    #[test]
    fn the_main_content_becomes_markdown() {
        let html = format!(
            "<html><head><title>A\n page</title><script>alert(1)</script></head><body>\
             <nav><a href=/home>Home</a><a href=/more>More</a></nav><article><h2>Heading</h2>{}\
             <p>See <a href=other>the other</a>.</p><ul><li>one<li>two</ul></article>\
             <footer>Footer words</footer></body></html>",
            PARAGRAPH.repeat(6)
        );
        let page = read(&html, false).expect("a page");
        assert_eq!(page.title.as_deref(), Some("A page"));
        assert!(page.main && page.markdown.contains("**bold**"), "{}", page.markdown);
        assert!(page.markdown.contains("[the other](https://example.com/dir/other)"), "{}", page.markdown);
        assert!(!page.markdown.contains("Footer") && !page.markdown.contains("alert"), "{}", page.markdown);

        let page = read(&html, true).expect("a page");
        assert!(!page.main && page.markdown.contains("Footer words"), "{}", page.markdown);
        assert!(page.markdown.contains("[Home](https://example.com/home)"), "{}", page.markdown);
        assert!(!page.markdown.contains("alert"), "{}", page.markdown);
        let empty = read("<title>t</title>", false).expect("a page");
        assert!(!empty.main && empty.markdown.is_empty());
    }

    /// Each of these overflows the stack of a thread, or takes minutes, without the limits.
    #[test]
    fn hostile_documents_are_bounded() {
        for unit in ["<div>", "<b>", "<ul><li>", "<blockquote>", "<table><tr><td>", "<pre>", "<em><a href=x>"]
        {
            let started = Instant::now();
            let hostile = unit.repeat(300_000);
            assert!(read(&hostile, false).is_err(), "{unit}");
            assert!(started.elapsed() < 3 * PARSING, "{unit}: {:?}", started.elapsed());
        }
        assert!(matches!(read(&"<b>".repeat(500), false), Err(PageError::TooDeep)));
        assert!(matches!(read(&"<br>".repeat(400_000), false), Err(PageError::TooManyNodes)));
        let url = Url::parse("https://example.com/").expect("a URL");
        assert!(matches!(readable("<p>x", &url, false, &|| true), Err(PageError::Cancelled)));
    }

    /// A worker thread has 2 MiB, as a test's thread has.
    #[test]
    fn the_deepest_documents_fit_the_stack() {
        for (unit, levels) in [
            ("<div>", 1),
            ("<b>", 1),
            ("<ul><li>", 2),
            ("<blockquote>", 1),
            ("<table><tr><td>", 4),
            ("<a href=x><i>", 2),
        ] {
            let deep = unit.repeat((MAX_DEPTH - 10) / levels) + PARAGRAPH;
            for whole in [false, true] {
                let page = read(&deep, whole);
                assert!(page.is_ok_and(|page| page.markdown.contains("bold")), "{unit}");
            }
        }
    }

    #[test]
    fn invisible_characters_are_removed_and_counted() {
        let (text, removed) = without_invisible("a\u{200b}b\u{e0041}\u{e0042}\n\u{202e}c\r\u{7}👩\u{200d}👧");
        assert_eq!((&*text, removed), ("ab\nc👩\u{200d}👧", 5));
    }
}
