//! Searches on the real file system, and their bounds.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use protocol::provider::Cancellation;
use serde_json::{Value, json};

use super::fixture_tests::{Fixture, refused};
use super::search::{Bounds, SearchFiles};

#[tokio::test]
async fn files_are_found_by_name_and_by_text() {
    let fixture = Fixture::new();
    for (path, text) in [
        ("src/main.rs", "fn main() {\n\tlet needle = 1;\n}\n"),
        ("src/deep/lib.rs", "// Needle\n// needle needle\r\nneedle"),
        ("docs/a.md", "nothing"),
        ("binary", "needle\0"),
        (".hidden/x.rs", "needle"),
    ] {
        fixture.put(path, text);
    }
    let paths = async |arguments: Value| -> Vec<String> {
        let found = fixture.call("search_files", arguments).await.unwrap();
        assert_eq!(found["truncated"], Value::Null);
        let matches = found["matches"].as_array().unwrap().iter();
        matches.map(|found| found["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        paths(json!({ "pattern": "*.rs" })).await,
        ["allowed/.hidden/x.rs", "allowed/src/deep/lib.rs", "allowed/src/main.rs"]
    );
    assert_eq!(paths(json!({ "path": "src", "pattern": "deep/*" })).await, ["allowed/src/deep/lib.rs"]);
    assert_eq!(paths(json!({ "pattern": "DOCS", "ignore_case": true })).await, ["allowed/docs"]);
    assert_eq!(paths(json!({})).await.len(), 9, "files and directories");
    assert_eq!(
        paths(json!({ "pattern": "src/**", "contains": "let needle" })).await,
        ["allowed/src/main.rs"]
    );
    let found = fixture.call("search_files", json!({ "contains": "needle" })).await.unwrap();
    assert_eq!((&found["filesRead"], &found["filesSkipped"]), (&json!(4), &json!(1)));
    assert_eq!(
        found["matches"][1]["lines"],
        json!([{ "number": 2, "text": "// needle needle" }, { "number": 3, "text": "needle" }])
    );
    assert_eq!(found["matches"][2]["lines"], json!([{ "number": 2, "text": "\tlet needle = 1;" }]));
    let asked = json!({ "path": "src/deep", "contains": "NEEDLE", "ignore_case": true });
    let found = fixture.call("search_files", asked).await.unwrap();
    assert_eq!(found["matches"][0]["lines"].as_array().unwrap().len(), 3);
    refused(fixture.call("search_files", json!({ "pattern": "[a" })).await, "`pattern` \"[a\" is refused");
    refused(fixture.call("search_files", json!({ "path": "docs/a.md" })).await, "is not a directory");
    refused(fixture.call("search_files", json!({ "path": "no" })).await, "does not exist");
    fixture.put("long", format!("{} needle", "x".repeat(1000)));
    let found =
        fixture.call("search_files", json!({ "pattern": "long", "contains": "needle" })).await.unwrap();
    assert_eq!(found["matches"][0]["lines"][0]["text"].as_str().unwrap().chars().count(), 201);
}

#[test]
fn a_search_that_stops_early_says_why() {
    let fixture = Fixture::new();
    for number in 0..30 {
        fixture.put(&format!("d/{number:02}"), "0123456789");
    }
    fixture.put("d/1/2/3/4/deep", "x");
    let search = |arguments: Value, change: &dyn Fn(&mut Bounds)| {
        let mut bounds = super::search::BOUNDS;
        change(&mut bounds);
        let asked: SearchFiles = serde_json::from_value(arguments).unwrap();
        let found =
            fixture.filesystem.0.search(&asked, &bounds, &Cancellation::default(), &AtomicU64::new(0));
        serde_json::to_value(found.unwrap()).unwrap()
    };
    let all = search(json!({}), &|_| {});
    assert_eq!((&all["truncated"], all["matches"].as_array().unwrap().len()), (&Value::Null, 36));
    for (arguments, change, reason, results) in [
        (json!({ "limit": 5 }), (&|_: &mut Bounds| {}) as &dyn Fn(&mut Bounds), "more than 5 results", 5),
        (json!({}), &|bounds| bounds.entries = 10, "more than 10 entries", 10),
        (json!({}), &|bounds| bounds.depth = 3, "more than 3 directories deep", 33),
        (json!({ "contains": "5" }), &|bounds| bounds.bytes = 95, "more than 95 bytes", 10),
        (json!({ "contains": "5" }), &|bounds| bounds.time = Duration::ZERO, "took more than 0ns", 0),
    ] {
        let found = search(arguments, change);
        let truncated = found["truncated"].as_str().unwrap();
        assert!(truncated.contains(reason), "{reason}: {truncated}");
        assert_eq!(found["matches"].as_array().unwrap().len(), results, "{reason}: {found}");
    }
    let exact = search(json!({ "pattern": "0*", "limit": 10 }), &|_| {});
    assert_eq!(exact["truncated"], Value::Null, "as many results as the limit are all of them");
    let cancelled = Cancellation::default();
    cancelled.cancel();
    let asked: SearchFiles = serde_json::from_value(json!({ "contains": "x" })).unwrap();
    let found = fixture.filesystem.0.search(&asked, &super::search::BOUNDS, &cancelled, &AtomicU64::new(0));
    refused(found.map(|_| ()).map_err(|error| error.to_string()), "given up");
}
