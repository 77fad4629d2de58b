//! Verdicts on malformed and odd definitions. `tests/clients/definitions.py` asks the official clients about
//! the same rows.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Row<'a> {
    kind: &'a str,
    #[serde(default)]
    era: Option<&'a str>,
    #[serde(borrow)]
    item: &'a RawValue,
    /// Part of the reason for which the item is left out.
    left_out: Option<String>,
    #[serde(borrow)]
    repaired: Option<&'a RawValue>,
    /// Codes of the warnings.
    #[serde(default)]
    warnings: Vec<String>,
}

#[test]
fn every_row_has_its_verdict() {
    let rows: Vec<Row<'_>> = serde_json::from_str(include_str!("definition/cases.json")).unwrap();
    assert!(rows.len() >= 50);
    let wrong: Vec<String> = rows.iter().filter_map(|row| problem_of(row).err()).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Checks one row for its era, or for both.
fn problem_of(row: &Row<'_>) -> Result<(), String> {
    let kind = ListKind::ALL.into_iter().find(|kind| kind.member() == row.kind).unwrap();
    let eras =
        [Era::Legacy, Era::Modern].into_iter().filter(|era| row.era.is_none_or(|name| name == era.as_str()));
    for era in eras {
        let told = |what: String| Err(format!("{} {}: {what}", era.as_str(), row.item));
        match (examine(kind, era, row.item), &row.left_out) {
            (Err(LeftOut { reason, .. }), Some(part)) if reason.contains(part) => {}
            (Err(LeftOut { reason, .. }), _) => return told(format!("is left out: {reason}")),
            (Ok(repaired), None) => {
                let warnings = warnings(kind, era, row.item);
                let codes: Vec<&str> = warnings.iter().map(|warning| warning.code).collect();
                if repaired.as_deref() != row.repaired.map(RawValue::get) {
                    return told(format!("becomes {repaired:?}"));
                }
                if codes != row.warnings {
                    return told(format!("has the warnings {codes:?}"));
                }
            }
            (Ok(_), Some(part)) => return told(format!("passes, but should not: {part}")),
        }
    }
    Ok(())
}

#[test]
fn work_is_bounded() {
    let tool = |input: &str, output: &str| {
        format!(
            r#"{{"name":"a","inputSchema":{{"type":"object"{input}}},"outputSchema":{{"type":"object"{output}}}}}"#
        )
    };
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}{{}}{}", open.repeat(levels), close.repeat(levels))
    };
    let chain = |length: usize| {
        let links = (0..length).map(|at| format!(r##""{at}":{{"$ref":"#/$defs/{}"}}"##, at + 1));
        format!(r#","$defs":{{{},"{length}":{{}}}}"#, links.collect::<Vec<_>>().join(","))
    };
    for (item, reason) in [
        (tool(&format!(r#","x":{}"#, nested("[", "]", 100_000)), ""), Some("nested deeper than 120 levels")),
        (
            tool("", &format!(r#","not":{}"#, nested(r#"{"not":"#, "}", 100_000))),
            Some("nested deeper than 120 levels"),
        ),
        (tool("", &format!(r#","not":{}"#, nested(r#"{"not":"#, "}", 115))), None),
        (tool(&format!(r#","x":"{}""#, "a".repeat(1 << 20)), ""), Some("longer than 1048576 bytes")),
        (tool("", &format!(r#","pattern":"{}""#, "(".repeat(10_000))), Some("a regular expression")),
        (
            tool("", &format!(r#","pattern":"{}""#, "a".repeat(20_000))),
            Some("a regular expression of more than"),
        ),
        (tool("", &format!(r#","pattern":"{}""#, "(?:a{5}".repeat(50) + &"){5}".repeat(50))), None),
        (tool("", &chain(20_000)), None),
        (tool("", &format!(r#","required":[{}]"#, vec![r#""a""#; 100_000].join(","))), Some("each one once")),
    ] {
        let raw: &RawValue = serde_json::from_str(&item).unwrap();
        let begun = std::time::Instant::now();
        let found = examine(ListKind::Tools, Era::Legacy, raw).map_err(|left_out| left_out.reason).err();
        // Far above what linear work takes on a busy machine, far below what quadratic work takes.
        assert!(begun.elapsed().as_secs() < 30, "{}", &item[..200]);
        match reason {
            Some(reason) => {
                assert!(found.as_deref().is_some_and(|found| found.contains(reason)), "{found:?}")
            }
            None => assert_eq!(found, None),
        }
    }
}
