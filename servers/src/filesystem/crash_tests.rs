//! A process that is killed while it writes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use protocol::provider::Cancellation;
use serde_json::json;

use super::fixture_tests::Fixture;
use super::path::is_unfinished;
use super::{Filesystem, FilesystemSettings, stale};

/// Length of the contents, bytes.
const LENGTH: usize = 4_000_000;

/// The process to kill: writes `file` of its working directory for ever, all `a` and all `b` in turn.
#[test]
#[ignore = "a_killed_write_leaves_the_old_or_the_new_contents starts it"]
fn writer() {
    let roots = vec![("root".to_owned(), ".".into())];
    let settings = FilesystemSettings { roots, ..FilesystemSettings::default() };
    let filesystem = Filesystem::open(settings).unwrap();
    let writes = ["a", "b"].map(|letter| {
        let write = json!({ "path": "file", "content": letter.repeat(LENGTH) });
        serde_json::from_value(write).unwrap()
    });
    let end = Instant::now() + Duration::from_secs(60);
    for write in writes.iter().cycle().take_while(|_| Instant::now() < end) {
        filesystem.0.write(write, &Cancellation::default()).unwrap();
    }
}

#[track_caller]
fn assert_whole(file: &Path) {
    let contents = std::fs::read(file).unwrap();
    assert_eq!(contents.len(), LENGTH);
    assert!(contents == contents[..1].repeat(LENGTH), "a mixture of two writes");
}

#[test]
fn a_killed_write_leaves_the_old_or_the_new_contents() {
    let fixture = Fixture::new();
    let file = fixture.root("file");
    let mut unfinished = 0;
    for round in 0..12 {
        #[expect(clippy::disallowed_methods, reason = "the process is killed by this test itself")]
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "filesystem::crash_tests::writer", "--ignored"])
            .current_dir(fixture.root(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        // A file is there, and the next is being written.
        while !(file.exists() && fixture.names("").iter().any(|name| is_unfinished(name))) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the child writes nothing");
        }
        // Every third process is watched through some writes, the others are killed in this one.
        let watched = Instant::now();
        while round % 3 == 0 && watched.elapsed() < Duration::from_millis(300) {
            assert_eq!(file.metadata().unwrap().len(), LENGTH as u64, "a write that is not whole was seen");
        }
        std::thread::sleep(Duration::from_micros(round * 200));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole(&file);
        unfinished += fixture.names("").iter().filter(|name| is_unfinished(name)).count();
        stale::remove(&fixture.filesystem.0.roots[0].dir);
        assert_eq!(fixture.names(""), ["file"]);
    }
    println!("{unfinished} of 12 kills left an unfinished file");
    assert!(unfinished > 0, "no kill came in the middle of a write");
}

#[tokio::test]
async fn unfinished_files_are_hidden_and_removed_at_the_next_start() {
    // A server that is read-only removes nothing.
    let fixture = Fixture::with(|settings| settings.read_only = true);
    let (stale, held) = (super::path::unfinished(), super::path::unfinished());
    fixture.put(&format!("a/{stale}"), "x");
    let held_path = fixture.put(&held, "x");
    let writer = std::fs::File::options().write(true).open(&held_path).unwrap();
    writer.lock().unwrap();
    let listed = fixture.call("list_directory", json!({})).await.unwrap();
    assert_eq!((listed["entries"].as_array().unwrap().len(), &listed["unnameable"]), (1, &json!(0)));
    let found = fixture.call("search_files", json!({})).await.unwrap();
    assert_eq!(found["matches"], json!([{ "path": "allowed/a", "kind": "directory" }]));
    for path in [&held, &format!("a/{stale}")] {
        let error = fixture.read(path).await.unwrap_err();
        assert!(error.contains("unfinished write"), "{error}");
    }
    let roots = vec![("allowed".to_owned(), fixture.root(""))];
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(fixture.names("a"), [stale]);
    let again = Filesystem::open(FilesystemSettings { roots, ..Default::default() }).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while !fixture.names("a").is_empty() {
        assert!(Instant::now() < end, "the file stays");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(again);
    assert!(held_path.exists(), "one that is being written stays");
}
