//! The tools on the real file system: what they answer, their bounds, and arguments that are wrong.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fixture_tests::{Fixture, refused};

/// Arguments with which each tool succeeds in a root that has `file`.
fn right_arguments(tool: &str) -> Value {
    match tool {
        "read_file" => json!({ "path": "file", "encoding": "text", "offset": 0, "limit": 1 }),
        "write_file" => json!({ "path": "new", "content": "x", "encoding": "text" }),
        "list_directory" => json!({ "path": "", "limit": 10, "after": "a" }),
        "create_directory" => json!({ "path": "directory" }),
        "get_file_info" => json!({ "path": "file" }),
        "search_files" => {
            json!({ "path": "", "pattern": "*", "contains": "x", "ignore_case": true, "limit": 1 })
        }
        "delete_file" => json!({ "path": "new" }),
        other => panic!("no arguments for the new tool {other}"),
    }
}

#[tokio::test]
async fn a_wrong_argument_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    fixture.put("file", "x");
    let listed = framework::testing::request(&fixture.provider(), "tools/list", json!({})).await.unwrap();
    let mut tried = 0;
    for tool in listed["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        let right = right_arguments(name);
        fixture.call(name, right.clone()).await.unwrap();
        let schema = &tool["inputSchema"];
        for (parameter, shape) in schema["properties"].as_object().unwrap() {
            assert!(shape["description"].is_string(), "{name}: `{parameter}` has no description");
            let is = |kind: &str| shape["type"] == kind || shape["type"][0] == kind;
            let mut wrong = vec![json!({}), json!([1]), json!([["x"]])];
            if is("integer") {
                wrong.extend([json!(-1), json!(1.5), json!("1"), json!(true), json!(1e300), json!(u64::MAX)]);
            } else if is("boolean") {
                wrong.extend([json!("true"), json!(1)]);
            } else if shape.get("enum").is_some() || shape.get("oneOf").is_some() {
                wrong.extend([json!("TEXT"), json!(""), json!(1), json!("text\0"), json!("x".repeat(5000))]);
            } else {
                wrong.extend([json!(1), json!(-1.5), json!(true)]);
                // Contents may be of any length and have any character; the size limit has a test of its own.
                if parameter != "content" {
                    wrong.extend([
                        json!("x".repeat(5000)),
                        json!("a\0b"),
                        json!("a\nb"),
                        json!("a\u{1b}[2J"),
                    ]);
                }
            }
            for value in wrong {
                let mut arguments = right.clone();
                arguments[parameter] = value.clone();
                let error = match fixture.call(name, arguments).await {
                    Err(error) => error,
                    Ok(answer) => panic!("{name} {parameter} {value}: {answer}"),
                };
                assert!(error.contains(&format!("`{parameter}`")), "{name} {parameter} {value}: {error}");
                assert!(
                    error.len() < 1000 && !error.contains(char::is_control),
                    "{name} {parameter}: {error}"
                );
                tried += 1;
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let mut arguments = right.clone();
            arguments.as_object_mut().unwrap().remove(required.as_str().unwrap());
            let missing = format!("`{}` is missing", required.as_str().unwrap());
            refused(fixture.call(name, arguments).await, &missing);
        }
        refused(fixture.call(name, json!({ "other": 1 })).await, "`other` is not an argument");
    }
    assert!(tried > 100, "only {tried}");
}

#[tokio::test]
async fn text_is_read_by_lines() {
    let fixture = Fixture::new();
    let text = "one\r\ntwo\n\nfour: \u{e9}\u{65e5}\nlast";
    fixture.put("file", text);
    let whole = fixture.call("read_file", json!({ "path": "allowed/file" })).await.unwrap();
    assert_eq!(whole["content"], text);
    assert_eq!((&whole["totalLines"], &whole["count"], &whole["size"]), (&json!(5), &json!(5), &json!(26)));
    assert_eq!((&whole["nextOffset"], &whole["path"]), (&Value::Null, &json!("allowed/file")));
    for limit in 1..=6 {
        let (mut joined, mut offset) = (String::new(), Some(0));
        while let Some(at) = offset {
            let asked = json!({ "path": "file", "offset": at, "limit": limit });
            let part = fixture.call("read_file", asked).await.unwrap();
            assert_eq!((&part["etag"], &part["totalLines"]), (&whole["etag"], &json!(5)));
            joined += part["content"].as_str().unwrap();
            offset = part["nextOffset"].as_u64();
        }
        assert_eq!(joined, text, "parts of {limit} lines make the file");
    }
    let beyond = fixture.call("read_file", json!({ "path": "file", "offset": 99 })).await.unwrap();
    assert_eq!((&beyond["content"], &beyond["count"]), (&json!(""), &json!(0)));
    fixture.put("empty", "");
    let empty = fixture.call("read_file", json!({ "path": "empty" })).await.unwrap();
    assert_eq!((&empty["content"], &empty["totalLines"]), (&json!(""), &json!(0)));
}

#[tokio::test]
async fn bytes_are_read_as_base64_and_are_no_text() {
    let fixture = Fixture::new();
    let bytes: Vec<u8> = (0..=255).collect();
    fixture.put("file", &bytes);
    refused(fixture.read("file").await, "read it with `encoding` `base64`");
    let asked = json!({ "path": "file", "encoding": "base64" });
    let whole = fixture.call("read_file", asked).await.unwrap();
    assert_eq!(STANDARD.decode(whole["content"].as_str().unwrap()).unwrap(), bytes);
    let asked = json!({ "path": "file", "encoding": "base64", "offset": 100, "limit": 10 });
    let part = fixture.call("read_file", asked).await.unwrap();
    assert_eq!(STANDARD.decode(part["content"].as_str().unwrap()).unwrap(), bytes[100..110]);
    assert_eq!((&part["nextOffset"], &part["size"]), (&json!(110), &json!(256)));
    let written = json!({ "path": "copy", "encoding": "base64", "content": whole["content"] });
    let written = fixture.call("write_file", written).await.unwrap();
    assert_eq!(written["etag"], whole["etag"]);
    assert_eq!(std::fs::read(fixture.root("copy")).unwrap(), bytes);
    let wrong = json!({ "path": "copy", "encoding": "base64", "content": "no base64!" });
    refused(fixture.call("write_file", wrong).await, "`content` is not base64");
}

#[tokio::test]
async fn the_size_limit_holds_for_reads_and_writes() {
    let fixture = Fixture::with(|settings| settings.max_bytes = 100);
    fixture.put("fits", "x".repeat(100));
    assert_eq!(fixture.read("fits").await.unwrap().len(), 100);
    let line = "0123456789abcdef\n";
    fixture.put("large", line.repeat(20));
    refused(fixture.read("large").await, "`allowed/large` has 340 bytes");
    let lines = json!({ "path": "large", "offset": 10, "limit": 5 });
    let part = fixture.call("read_file", lines).await.unwrap();
    assert_eq!((&part["content"], &part["nextOffset"]), (&json!(line.repeat(5)), &json!(15)));
    assert_eq!((&part["etag"], &part["totalLines"]), (&Value::Null, &Value::Null));
    refused(fixture.call("read_file", json!({ "path": "large", "limit": 6 })).await, "ask for fewer lines");
    let bytes = json!({ "path": "large", "offset": 330, "limit": 1000, "encoding": "base64" });
    let part = fixture.call("read_file", bytes).await.unwrap();
    assert_eq!((&part["count"], &part["nextOffset"]), (&json!(10), &Value::Null));
    let bytes = json!({ "path": "large", "limit": 1000, "encoding": "base64" });
    let part = fixture.call("read_file", bytes).await.unwrap();
    assert_eq!((&part["count"], &part["nextOffset"]), (&json!(100), &json!(100)));
    fixture.write("new", &"x".repeat(100)).await.unwrap();
    refused(fixture.write("new", &"x".repeat(101)).await, "`content` has 101 bytes");
    assert_eq!(fixture.read("new").await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_write_replaces_what_its_etag_names_and_nothing_else() {
    let fixture = Fixture::new();
    let write = async |content: &str, if_match: &Value| {
        let asked = json!({ "path": "file", "content": content, "if_match": if_match });
        fixture.call("write_file", asked).await
    };
    let first = write("one", &json!("absent")).await.unwrap();
    assert_eq!((&first["created"], &first["size"]), (&json!(true), &json!(3)));
    refused(write("two", &json!("absent")).await, "version_conflict: `allowed/file` exists");
    let second = write("two", &first["etag"]).await.unwrap();
    assert_eq!(second["created"], false);
    refused(write("three", &first["etag"]).await, "has other contents");
    assert_eq!(fixture.read("file").await.unwrap(), "two");
    let info = fixture.call("get_file_info", json!({ "path": "file" })).await.unwrap();
    assert_eq!(info["etag"], second["etag"]);
    fixture.call("delete_file", json!({ "path": "file" })).await.unwrap();
    refused(write("four", &second["etag"]).await, "does not exist any more");
    fixture.write("file", "five").await.unwrap();
    assert_eq!(fixture.names(""), ["file"], "nothing unfinished stays");

    refused(fixture.write("no/such/file", "x").await, "does not exist");
    refused(fixture.write("file/below", "x").await, "is not a directory");
    refused(fixture.write("allowed", "x").await, "is a root");
    fixture.call("create_directory", json!({ "path": "d" })).await.unwrap();
    refused(fixture.write("d", "x").await, "is a directory");
    assert_eq!(fixture.names(""), ["d", "file"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writes_with_one_etag_one_wins() {
    let fixture = std::sync::Arc::new(Fixture::new());
    let mut etag = fixture.write("file", "start").await.unwrap()["etag"].clone();
    for round in 0..10 {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (fixture, etag) = (std::sync::Arc::clone(&fixture), etag.clone());
            writers.spawn(async move {
                let content = format!("{round} {writer}");
                fixture
                    .call("write_file", json!({ "path": "file", "content": content, "if_match": etag }))
                    .await
            });
        }
        let won: Vec<Value> = writers.join_all().await.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1, "round {round}");
        etag = won[0]["etag"].clone();
    }
    let info = fixture.call("get_file_info", json!({ "path": "file" })).await.unwrap();
    assert_eq!(info["etag"], etag);
}

#[tokio::test]
async fn directories_are_made_and_emptied() {
    let fixture = Fixture::new();
    let make = async |path: &str| fixture.call("create_directory", json!({ "path": path })).await;
    let delete = async |path: &str| fixture.call("delete_file", json!({ "path": path })).await;
    assert_eq!(make("a/b/c").await.unwrap(), json!({ "path": "allowed/a/b/c", "created": true }));
    assert_eq!(make("a/b/c").await.unwrap()["created"], false);
    assert_eq!(make("allowed").await.unwrap()["created"], false);
    fixture.put("a/file", "x");
    refused(make("a/file").await, "a file or link has that name");
    refused(make("a/file/below").await, "one of its names is a file");
    refused(delete("a").await, "`allowed/a` is not empty");
    refused(delete("allowed").await, "is a root");
    refused(delete("nothing").await, "does not exist");
    for (path, kind) in [("a/file", "file"), ("a/b/c", "directory"), ("a/b", "directory"), ("a", "directory")]
    {
        assert_eq!(delete(path).await.unwrap()["kind"], kind);
    }
    assert!(fixture.names("").is_empty());
}

#[tokio::test]
async fn a_directory_is_listed_in_pages() {
    let fixture = Fixture::new();
    for number in 0..25 {
        fixture.put(&format!("d/{number:02}"), "x".repeat(number));
    }
    fixture.put("d/sub/file", "x");
    std::os::unix::fs::symlink("sub", fixture.root("d/zlink")).unwrap();
    std::fs::write(fixture.root("d").join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    fixture.put("d/new\nline", "x");
    for limit in [1, 7, 26, 27, 28] {
        let (mut names, mut after, mut pages) = (Vec::new(), Value::Null, 0);
        loop {
            let asked = json!({ "path": "d", "limit": limit, "after": after });
            let page = fixture.call("list_directory", asked).await.unwrap();
            assert_eq!(page["unnameable"], 2);
            let entries = page["entries"].as_array().unwrap();
            assert!(entries.len() <= limit);
            names.extend(entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()));
            pages += 1;
            after = page["next"].clone();
            if after.is_null() {
                break;
            }
        }
        assert_eq!(pages, 27_usize.div_ceil(limit), "{limit}");
        let expected: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
        assert_eq!(names, [&expected[..], &["sub".to_owned(), "zlink".to_owned()]].concat());
    }
    let page = fixture.call("list_directory", json!({ "path": "d", "after": "08" })).await.unwrap();
    assert_eq!(page["entries"][0]["size"], 9);
    assert!(page["entries"][0]["modified"].as_str().unwrap().starts_with("20"));
    assert_eq!(page["entries"][16]["kind"], "directory");
    assert_eq!(page["entries"][17]["kind"], "link");
    fixture.put("file", "x");
    refused(fixture.call("list_directory", json!({ "path": "file" })).await, "is not a directory");
    refused(fixture.call("list_directory", json!({ "path": "no" })).await, "does not exist");
}

#[tokio::test]
async fn several_roots_are_listed_and_named() {
    let other = tempfile::tempdir().unwrap();
    let dir = other.path().to_owned();
    std::fs::write(dir.join("file"), "of the other").unwrap();
    let fixture = Fixture::with(|settings| settings.roots.push(("notes".to_owned(), dir)));
    fixture.put("file", "of the first");
    let listed = fixture.call("list_directory", json!({})).await.unwrap();
    let names: Vec<_> = listed["entries"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["allowed", "notes"]);
    assert_eq!(fixture.read("notes/file").await.unwrap(), "of the other");
    assert_eq!(fixture.read("allowed/file").await.unwrap(), "of the first");
    refused(fixture.read("file").await, "the name of a root: `allowed`, `notes`");
    refused(fixture.call("get_file_info", json!({ "path": "." })).await, "begin with the name of a root");
    let found = fixture.call("search_files", json!({ "pattern": "file" })).await.unwrap();
    let paths: Vec<_> = found["matches"].as_array().unwrap().iter().map(|found| &found["path"]).collect();
    assert_eq!(paths, ["allowed/file", "notes/file"]);
    fixture.health().await.unwrap();
    drop(other);
    refused(fixture.health().await, "the root `notes`");
}

#[tokio::test]
async fn a_read_only_server_has_no_tools_that_write() {
    let fixture = Fixture::with(|settings| settings.read_only = true);
    fixture.put("file", "x");
    let listed = framework::testing::request(&fixture.provider(), "tools/list", json!({})).await.unwrap();
    let names: Vec<_> = listed["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, super::tools::READING);
    for tool in ["write_file", "create_directory", "delete_file"] {
        refused(fixture.call(tool, right_arguments(tool)).await, "unknown tool");
        // The provider itself refuses too, whatever the list is.
        refused(fixture.call_provider(tool, right_arguments(tool)).await, "not found");
    }
    assert_eq!(fixture.read("file").await.unwrap(), "x");
    assert_eq!(fixture.names(""), ["file"]);
}

#[tokio::test]
async fn what_the_file_system_refuses_is_said() {
    if rustix::process::geteuid().is_root() {
        println!("not run: permissions do not hold for root");
        return;
    }
    let fixture = Fixture::new();
    let file = fixture.put("d/file", "x");
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&file, 0o444);
    refused(fixture.write("d/file", "y").await, "may not be used");
    set(&file, 0o000);
    refused(fixture.read("d/file").await, "may not be used");
    set(&fixture.root("d"), 0o000);
    let found = fixture.call("search_files", json!({})).await.unwrap();
    assert_eq!(found["directoriesSkipped"], 1);
    set(&fixture.root("d"), 0o755);
}
