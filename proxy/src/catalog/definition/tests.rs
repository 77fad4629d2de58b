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
    let rows: Vec<Row<'_>> = serde_json::from_str(include_str!("cases.json")).unwrap();
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
            (Ok(examined), None) => {
                let codes: Vec<&str> = examined.warnings.iter().map(|warning| warning.code).collect();
                if examined.repaired.as_deref() != row.repaired.map(RawValue::get) {
                    return told(format!("becomes {:?}", examined.repaired));
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
