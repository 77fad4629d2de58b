//! The homes of facts: a status, a header, a table, a setting, a key, a version each live in one place.
//! It reads lines as text, without the parts that are tests, and knows no Rust beyond string literals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Crates whose `src` is looked at.
const ROOMS: [&str; 7] = ["api", "entity", "framework", "migration", "protocol", "proxy", "servers"];

/// A kind of fact.
struct Rule {
    /// What it is, as a plural.
    kind: &'static str,
    /// Finds it in a line of code; `literals` are the texts of its string literals.
    found: fn(code: &str, literals: &[&str]) -> bool,
    /// Where it may stand: beginnings of paths from the root.
    homes: &'static [&'static str],
    /// At most one file holds it, whichever.
    one_file: bool,
    instead: &'static str,
}

const RULES: [Rule; 12] = [
    Rule {
        kind: "HTTP statuses",
        found: |code, _| code.contains("StatusCode::"),
        homes: &["api/src/http/", "api/src/rest/", "api/src/ops/endpoints.rs"],
        one_file: false,
        instead: "give a `Refusal` with a `Code`, which knows its status",
    },
    Rule {
        kind: "header names",
        // An OpenAPI attribute takes literals only.
        found: |code, literals| {
            !code.contains(", Header, ")
                && literals.iter().any(|text| HEADERS.contains(&text.to_ascii_lowercase().as_str()))
        },
        homes: &["api/src/"],
        one_file: true,
        instead: "name it once in the one file of `api` that has the header names, and use the constant",
    },
    Rule {
        kind: "header names of MCP",
        // An OpenAPI attribute takes literals only.
        found: |code, literals| {
            !code.contains(", Header, ")
                && literals.iter().any(|text| MCP_HEADERS.contains(&text.to_ascii_lowercase().as_str()))
        },
        homes: &["protocol/src/"],
        one_file: true,
        instead: "use the constants of `protocol::mcp::header`",
    },
    Rule {
        kind: "metric names",
        found: |_, literals| literals.iter().any(|text| is_metric(text)),
        homes: &["api/src/"],
        one_file: true,
        instead: "name it once in the one file of `api` that has the metrics, and use the constant",
    },
    Rule {
        kind: "routes",
        found: |_, literals| literals.iter().any(|text| text.starts_with("/v1/") || text.starts_with("/mcp")),
        homes: &["api/src/", "protocol/src/slash.rs"],
        one_file: false,
        instead: "routes are given in `api`",
    },
    Rule {
        kind: "table names and SQL",
        found: |_, literals| literals.iter().any(|text| is_sql(text)),
        homes: &["entity/src/", "migration/src/", "servers/src/sql/"],
        one_file: false,
        instead: "ask a tenant scope of `entity`, or give it the query as a method",
    },
    Rule {
        kind: "names of settings",
        found: |_, literals| literals.iter().any(|text| is_setting(text)),
        homes: &["api/src/config", "servers/src/database/arguments.rs", "servers/src/web/arguments.rs"],
        one_file: false,
        instead: "settings are named and read in `api::config`; take the value as a parameter",
    },
    Rule {
        kind: "key prefixes of the shared state",
        found: |_, literals| literals.iter().any(|text| text.starts_with("t:{") || text.starts_with("g:{")),
        homes: &["proxy/src/state/key.rs"],
        one_file: false,
        instead: "make a `StateKey` or `LimitKey`, which have the tenant in them",
    },
    Rule {
        kind: "protocol versions",
        found: |_, literals| literals.iter().any(|text| is_version(text)),
        homes: &["protocol/src/"],
        one_file: false,
        instead: "use the constants of `protocol::mcp`",
    },
    Rule {
        kind: "JSON-RPC error codes",
        found: |code, _| has_rpc_code(code),
        homes: &["protocol/src/"],
        one_file: false,
        instead: "give a `Refusal` with a `Code`, which knows its number",
    },
    Rule {
        kind: "starts of programs",
        found: |code, _| code.contains("Command::new("),
        homes: &["proxy/src/child/spawn.rs"],
        one_file: false,
        instead: "ask `proxy::child`, which keeps a child from outliving the gateway",
    },
    Rule {
        kind: "calls of unwrap",
        found: |code, _| code.contains(".unwrap()"),
        homes: &[],
        one_file: false,
        instead: "give the error, or `expect(\"why it cannot be\")`",
    },
];

/// Lines that stand where they should not, by file and a part of the line. This list only shrinks: an
/// entry that excuses nothing fails the test.
const EXCEPTIONS: [(&str, &str); 0] = [];

const HEADERS: [&str; 11] = [
    "x-mcp-key",
    "x-agent-id",
    "x-tenant-id",
    "x-request-id",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "content-type",
    "if-match",
    "traceparent",
    "www-authenticate",
];

const MCP_HEADERS: [&str; 5] =
    ["mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"];

const TABLES: [&str; 10] = [
    "mcp_servers",
    "mcp_server_configs",
    "mcp_sessions",
    "mcp_tool_executions",
    "mcp_registry_entries",
    "audit_events",
    "task_events",
    "task_leases",
    "task_files",
    "task_outbox",
];

fn is_metric(text: &str) -> bool {
    let begins = ["mcp_", "http_", "process_"].iter().any(|start| text.starts_with(start));
    let ends =
        ["_total", "_seconds", "_bytes", "_pool_size", "_pool_idle"].iter().any(|end| text.ends_with(end));
    begins && ends
}

fn is_sql(text: &str) -> bool {
    let statement = |start: &str, then: &str| text.starts_with(start) && text.contains(then);
    TABLES.contains(&text)
        || statement("SELECT ", " FROM ")
        || statement("INSERT ", "INTO ")
        || statement("UPDATE ", " SET ")
        || statement("DELETE ", "FROM ")
        || statement("CREATE ", " (")
}

/// A module that is compiled into tests only, by the name we give such files.
fn is_tests(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with("_tests"))
}

/// `TWO_WORDS` in capitals, but for those of Cargo, which the compiler reads.
fn is_setting(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let ours = !text.starts_with("CARGO_");
    ours && text.contains('_')
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(plain)
}

/// A date as the protocol's revisions have it.
fn is_version(text: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| text.as_bytes()[range].iter().all(u8::is_ascii_digit);
    text.len() == 10
        && text.is_ascii()
        && text.starts_with("20")
        && digits(0..4)
        && digits(5..7)
        && digits(8..10)
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[7] == b'-'
}

fn has_rpc_code(code: &str) -> bool {
    let after = |start: usize| code[start..].bytes().take_while(u8::is_ascii_digit).count();
    code.match_indices("-32").any(|(at, _)| after(at + 1) == 5)
}

/// Every line that is in a wrong place, as a sentence.
pub fn check(root: &Path) -> Vec<String> {
    judge(sources(root).into_iter(), &EXCEPTIONS)
}

/// Returns the path, from the root, and the text of every source file that is no test.
pub fn sources(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for room in ROOMS {
        collect(&root.join(room).join("src"), &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source is readable text");
        let relative = path.strip_prefix(root).expect("it was found below the root");
        (relative.to_string_lossy().replace('\\', "/"), text)
    };
    files.into_iter().map(read).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests(&path) {
            files.push(path);
        }
    }
}

fn judge(sources: impl Iterator<Item = (String, String)>, exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut unused: BTreeSet<(&str, &str)> = exceptions.iter().copied().collect();
    for (path, text) in sources {
        for (number, line) in production_lines(&text) {
            let (code, literals) = split(line);
            for rule in RULES.iter().filter(|rule| (rule.found)(&code, &literals)) {
                let excuse = exceptions.iter().find(|(file, part)| *file == path && line.contains(part));
                if let Some(excuse) = excuse {
                    unused.remove(excuse);
                } else if !rule.homes.iter().any(|home| path.starts_with(home)) {
                    let home = if rule.homes.is_empty() { "tests only" } else { &rule.homes.join(" and ") };
                    complaints.push(format!(
                        "{path}:{number}: {} belong in {home}: {}.\n    {}",
                        rule.kind,
                        rule.instead,
                        line.trim()
                    ));
                } else if rule.one_file {
                    seen.entry(rule.kind).or_default().insert(path.clone());
                }
            }
        }
    }
    for rule in RULES.iter().filter(|rule| seen.get(rule.kind).is_some_and(|files| files.len() > 1)) {
        let files = Vec::from_iter(seen[rule.kind].iter().map(String::as_str)).join(", ");
        complaints.push(format!("{files}: {} are in more than one file: {}.", rule.kind, rule.instead));
    }
    let stale = unused.into_iter().map(|(file, part)| {
        format!("tests/tests/rooms/lines.rs: the exception ({file:?}, {part:?}) excuses nothing any more; delete it.")
    });
    complaints.extend(stale);
    complaints
}

/// The lines of a source before its test module, without comments and attributes, numbered from 1.
fn production_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .take_while(|(_, line)| line.trim_end() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("#["))
}

/// A line without its string literals and trailing comment, and those literals.
fn split(line: &str) -> (String, Vec<&str>) {
    let (mut code, mut literals, mut rest) = (String::new(), Vec::new(), line);
    while let Some(open) = rest.find('"') {
        let (before, after) = (&rest[..open], &rest[open + 1..]);
        // `'"'` is a character and no beginning.
        if before.ends_with('\'') && after.starts_with('\'') {
            code.push_str(before);
            rest = after;
            continue;
        }
        if let Some(comment) = before.find("// ") {
            code.push_str(&before[..comment]);
            return (code, literals);
        }
        code.push_str(before);
        let close = closing_quote(after);
        literals.push(&after[..close]);
        rest = after.get(close + 1..).unwrap_or_default();
    }
    code.push_str(rest.split("// ").next().unwrap_or_default());
    (code, literals)
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(path: &str, line: &str) -> String {
        judge([(path.to_owned(), line.to_owned())].into_iter(), &[]).join("\n")
    }

    #[test]
    fn a_wrong_line_is_told_where_it_belongs() {
        for (path, line, sentence) in [
            ("proxy/src/x.rs", "let status = StatusCode::OK;", "HTTP statuses belong in api/src/"),
            ("proxy/src/x.rs", r#"request.header("X-Agent-Id", id)"#, "header names belong in api/src/"),
            ("entity/src/x.rs", r#"counter!("mcp_operation_total")"#, "metric names belong in api/src/"),
            ("proxy/src/x.rs", r#"get("/v1/mcp/servers")"#, "routes belong in api/src/"),
            ("api/src/x.rs", r#"query("SELECT id FROM agents")"#, "belong in entity/src/ and migration/src/"),
            ("api/src/x.rs", r#"let table = "mcp_servers";"#, "belong in entity/src/ and migration/src/"),
            ("proxy/src/x.rs", r#"setting("REDIS_URL")"#, "names of settings belong in api/src/config"),
            ("api/src/x.rs", r#"format!("t:{tenant}:task")"#, "belong in proxy/src/state/key.rs"),
            ("proxy/src/x.rs", r#"let version = "2025-11-25";"#, "protocol versions belong in protocol/src/"),
            ("api/src/x.rs", "error(-32601)", "JSON-RPC error codes belong in protocol/src/"),
            ("api/src/x.rs", "Command::new(program)", "belong in proxy/src/child/spawn.rs"),
            ("api/src/x.rs", "thing.unwrap();", "calls of unwrap belong in tests only"),
        ] {
            let complaint = complaint(path, line);
            assert!(
                complaint.contains(sentence) && complaint.contains(&format!("{path}:1:")),
                "{line}: {complaint}"
            );
        }
    }

    #[test]
    fn a_line_at_home_is_fine() {
        for (path, line) in [
            ("api/src/config/env.rs", r#"setting("REDIS_URL")"#),
            ("proxy/src/state/key.rs", r#"format!("t:{tenant}:{name}")"#),
            ("proxy/src/x.rs", "// the status 404, `-32601`, \"2025-11-25\" and .unwrap() in a comment"),
            ("proxy/src/x.rs", r#"let hint = "set REDIS_URL"; // not "REDIS_URL" alone"#),
            ("proxy/src/x.rs", "#[cfg(test)]\nmod tests {\n    thing.unwrap();\n}"),
            ("proxy/src/x.rs", r#"matches!(byte, '"') || text == "a \"quoted\" REDIS_URL""#),
            ("api/src/x.rs", r#"let secret = "mcp_live_";"#),
        ] {
            assert_eq!(complaint(path, line), "", "{line}");
        }
    }

    #[test]
    fn one_kind_in_two_files_is_one_too_many() {
        let line = r#"let name = "x-agent-id";"#.to_owned();
        let files = [("api/src/a.rs".to_owned(), line.clone()), ("api/src/b.rs".to_owned(), line)];
        let complaints = judge(files.into_iter(), &[]).join("\n");
        assert!(
            complaints.contains("api/src/a.rs, api/src/b.rs: header names are in more than one file"),
            "{complaints}"
        );
    }

    #[test]
    fn an_exception_excuses_and_must_be_needed() {
        let source = || [("api/src/a.rs".to_owned(), "x.unwrap()".to_owned())].into_iter();
        assert!(judge(source(), &[("api/src/a.rs", "x.unwrap")]).is_empty());
        let stale = judge(source(), &[("api/src/a.rs", "x.unwrap"), ("api/src/b.rs", "gone")]).join("\n");
        assert!(stale.contains("excuses nothing any more"), "{stale}");
    }
}
