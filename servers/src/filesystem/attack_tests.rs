//! Attacks on the limits of a root, on the real file system.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::provider::Cancellation;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use serde_json::json;

use super::fixture_tests::{Fixture, SECRET, refused};
use super::read::ReadFile;
use super::write::{DeleteFile, WriteFile};

/// Tries a path with each tool that takes one, and returns the errors.
async fn with_each_tool(fixture: &Fixture, path: &str) -> Vec<(&'static str, String)> {
    let mut errors = Vec::new();
    for (tool, arguments) in [
        ("read_file", json!({ "path": path })),
        ("read_file", json!({ "path": path, "encoding": "base64", "limit": 10 })),
        ("write_file", json!({ "path": path, "content": "overwritten" })),
        ("list_directory", json!({ "path": path })),
        ("create_directory", json!({ "path": path })),
        ("search_files", json!({ "path": path, "contains": "secret" })),
        ("get_file_info", json!({ "path": path })),
        ("delete_file", json!({ "path": path })),
    ] {
        match fixture.call(tool, arguments).await {
            Ok(answer) => errors.push((tool, format!("answered {answer}"))),
            Err(error) => errors.push((tool, error)),
        }
    }
    errors
}

fn assert_untouched(fixture: &Fixture) {
    assert_eq!(super::fixture_tests::names(&fixture.outside("")), ["secret"]);
    assert_eq!(std::fs::read_to_string(fixture.outside("secret")).unwrap(), SECRET);
}

#[tokio::test]
async fn paths_that_name_the_outside_are_refused() {
    let fixture = Fixture::new();
    let absolute = fixture.outside("secret").to_str().unwrap().to_owned();
    let own = fixture.root("").to_str().unwrap().to_owned();
    fixture.put("a/file", "inside");
    for (path, part) in [
        // CVE-2025-53110: a directory outside whose name begins with that of the allowed one.
        (absolute.as_str(), "absolute"),
        ("../allowed_evil/secret", "`..`"),
        ("allowed/../allowed_evil/secret", "`..`"),
        ("a/../../allowed_evil/secret", "`..`"),
        ("..", "`..`"),
        (&own, "absolute"),
        ("/proc/self/root/etc/passwd", "absolute"),
        ("a/file\0../../allowed_evil/secret", "NUL"),
        ("a\r\n", "control"),
        (&"n".repeat(256), "255 bytes"),
    ] {
        for (tool, error) in with_each_tool(&fixture, path).await {
            assert!(error.contains("`path`") && error.contains(part), "{tool} {path}: {error}");
        }
    }
    // The name with the same beginning is one inside the root, where nothing has it.
    refused(fixture.read("allowed_evil/secret").await, "does not exist");
    assert_untouched(&fixture);
}

#[tokio::test]
async fn links_to_the_outside_are_not_followed() {
    let fixture = Fixture::new();
    // CVE-2025-53109: a symbolic link inside the allowed directory.
    symlink(fixture.outside("secret"), fixture.root("absolute")).unwrap();
    symlink("../allowed_evil/secret", fixture.root("relative")).unwrap();
    symlink("/proc/self/root/etc/passwd", fixture.root("proc")).unwrap();
    symlink("/proc/self/fd/0", fixture.root("descriptor")).unwrap();
    symlink(fixture.outside(""), fixture.root("directory")).unwrap();
    symlink("directory", fixture.root("chain")).unwrap();
    for path in ["absolute", "relative", "proc", "descriptor", "directory/secret", "chain/secret"] {
        for (tool, error) in with_each_tool(&fixture, path).await {
            let is_of_link = ["get_file_info", "delete_file"].contains(&tool) && !path.contains('/');
            match is_of_link {
                // The link itself is described and deleted, and nothing of what it leads to.
                true => {
                    assert!(error.starts_with("answered") && !error.contains("/proc/self"), "{tool}: {error}")
                }
                false => assert!(error.contains("by a symbolic link"), "{tool} {path}: {error}"),
            }
        }
    }
    for tool in ["list_directory", "search_files"] {
        refused(fixture.call(tool, json!({ "path": "directory" })).await, "by a symbolic link");
    }
    refused(fixture.call("create_directory", json!({ "path": "directory/new" })).await, "");
    let found = fixture.call("search_files", json!({ "contains": "secret" })).await.unwrap();
    assert_eq!(found["matches"], json!([]), "a search follows no link");
    assert_untouched(&fixture);
}

#[tokio::test]
async fn links_inside_the_root_are_followed() {
    let fixture = Fixture::new();
    fixture.put("a/file", "inside");
    symlink("a/file", fixture.root("link")).unwrap();
    symlink("a", fixture.root("directory")).unwrap();
    symlink("nowhere", fixture.root("dangling")).unwrap();
    symlink("loop", fixture.root("loop")).unwrap();
    assert_eq!(fixture.read("link").await.unwrap(), "inside");
    assert_eq!(fixture.read("directory/file").await.unwrap(), "inside");
    fixture.write("link", "new").await.unwrap();
    assert!(fixture.root("link").is_symlink(), "the file is written, and not the link");
    assert_eq!(fixture.read("a/file").await.unwrap(), "new");
    refused(fixture.read("dangling").await, "does not exist");
    refused(fixture.write("dangling", "x").await, "does not exist");
    refused(fixture.read("loop").await, "loop");
    let info = fixture.call("get_file_info", json!({ "path": "dangling" })).await.unwrap();
    assert_eq!((&info["kind"], &info["isLink"]), (&json!("link"), &json!(true)));
    fixture.call("delete_file", json!({ "path": "link" })).await.unwrap();
    assert_eq!(fixture.read("a/file").await.unwrap(), "new", "only the link was deleted");
}

#[tokio::test]
async fn a_second_name_of_a_file_outside_is_refused() {
    let fixture = Fixture::new();
    std::fs::hard_link(fixture.outside("secret"), fixture.root("linked")).unwrap();
    refused(fixture.read("linked").await, "hard links");
    refused(fixture.write("linked", "x").await, "hard links");
    let found = fixture.call("search_files", json!({ "contains": "secret" })).await.unwrap();
    assert_eq!((&found["matches"], &found["filesSkipped"]), (&json!([]), &json!(1)));
    let info = fixture.call("get_file_info", json!({ "path": "linked" })).await.unwrap();
    assert_eq!((&info["names"], &info["etag"]), (&json!(2), &json!(null)));
    assert_untouched(&fixture);

    let allowing = Fixture::with(|settings| settings.allow_hard_links = true);
    std::fs::hard_link(allowing.outside("secret"), allowing.root("linked")).unwrap();
    assert_eq!(allowing.read("linked").await.unwrap(), SECRET);
    let found = allowing.call("search_files", json!({ "contains": "secret" })).await.unwrap();
    assert_eq!(found["matches"][0]["path"], "allowed/linked");
    allowing.write("linked", "x").await.unwrap();
    assert_untouched(&allowing);
}

#[tokio::test]
async fn pipes_sockets_and_devices_are_not_opened() {
    let fixture = Fixture::new();
    mknodat(CWD, fixture.root("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.root("socket")).unwrap();
    for path in ["pipe", "socket"] {
        let begun = Instant::now();
        refused(fixture.read(path).await, "not a regular file");
        refused(fixture.write(path, "x").await, "not a regular file");
        refused(fixture.call("delete_file", json!({ "path": path })).await, "no tool deletes");
        let found = fixture.call("search_files", json!({ "contains": "x" })).await.unwrap();
        assert_eq!(found["filesRead"], 0);
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits for a writer");
        let info = fixture.call("get_file_info", json!({ "path": path })).await.unwrap();
        assert_eq!(info["kind"], "other");
    }
    let devices = Fixture::with(|settings| {
        settings.roots = vec![("dev".to_owned(), "/dev".into())];
        settings.read_only = true;
    });
    for path in ["zero", "dev/null", "tty"] {
        refused(devices.read(path).await, "not a regular file");
    }
}

#[tokio::test]
async fn a_replaced_file_keeps_its_permissions_without_setuid() {
    let fixture = Fixture::new();
    for (mode, kept) in [(0o4755, 0o755), (0o2750, 0o750), (0o1644, 0o644), (0o600, 0o600), (0o666, 0o666)] {
        let file = fixture.put("file", "old");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        fixture.write("file", "new").await.unwrap();
        let found = std::fs::metadata(&file).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, kept, "{mode:o}");
    }
    fixture.write("new", "x").await.unwrap();
    let found = std::fs::metadata(fixture.root("new")).unwrap().permissions().mode() & 0o7777;
    let plain = fixture.put("plain", "x");
    assert_eq!(found, std::fs::metadata(plain).unwrap().permissions().mode() & 0o7777, "as any new file");
}

/// Exchanges a directory of the root and a link to the outside, again and again, while calls go through the name.
#[test]
fn a_race_of_directory_and_link_leaks_nothing() {
    let fixture = Fixture::new();
    fixture.put("d/secret", "inside");
    symlink(fixture.outside(""), fixture.root("link")).unwrap();
    let (one, other) = (fixture.root("d"), fixture.root("link"));
    let (is_over, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let files = &fixture.filesystem.0;
    let wanted = Cancellation::default();
    let read: ReadFile = serde_json::from_value(json!({ "path": "d/secret" })).unwrap();
    let write: WriteFile = serde_json::from_value(json!({ "path": "d/new", "content": "x" })).unwrap();
    let delete: DeleteFile = serde_json::from_value(json!({ "path": "d/new" })).unwrap();
    let search = serde_json::from_value(json!({ "path": "d", "contains": SECRET })).unwrap();
    let (mut reads, mut leaks, mut writes, mut refusals) = (0, 0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let begun = Instant::now();
        // At least a second, and longer where others use the processor.
        while begun.elapsed() < Duration::from_secs(if reads < 1000 || writes < 20 { 20 } else { 1 }) {
            for _ in 0..50 {
                match files.read(&read, &wanted) {
                    Ok(found) => match found.content() {
                        "inside" => reads += 1,
                        _ => leaks += 1,
                    },
                    Err(_) => refusals += 1,
                }
            }
            writes += u32::from(files.write(&write, &wanted).is_ok());
            files.delete(&delete).ok();
            let found = files.search(&search, &super::search::BOUNDS, &wanted, &AtomicU64::new(0));
            leaks += found.map_or(0, |found| found.len());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let swaps = swaps.into_inner();
    println!("{reads} reads, {refusals} refusals, {writes} writes, {leaks} leaks in {swaps} exchanges");
    assert_eq!(leaks, 0);
    assert!(reads >= 1000 && refusals > 500 && writes >= 20 && swaps > 1000, "the race took place");
    assert_untouched(&fixture);
}

#[tokio::test]
async fn no_tool_makes_a_link() {
    let fixture = Fixture::new();
    fixture.write("file", "x").await.unwrap();
    fixture.call("create_directory", json!({ "path": "a/b" })).await.unwrap();
    for name in ["file", "a", "a/b"] {
        let found = rustix::fs::statat(CWD, fixture.root(name), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_ne!(FileType::from_raw_mode(found.st_mode), FileType::Symlink);
    }
}
