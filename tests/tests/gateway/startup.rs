//! Starts that fail, and the very first one: a sentence and an exit code, never a panic.

use std::process::Command;
use std::time::{Duration, Instant};

use tests::postgres::free_port;
use tests::process::{self, FailedStart};
use tests::scratch::Scratch;
use tests::storage::Storage;
use tests::{Backend, Case, Settings, TestApp, cases, json, not_run};

pub const CASES: &[Case] = cases![
    Once: every_mistake_is_reported_at_once, a_port_in_use, a_database_that_is_not_there, a_directory_that_is_none,
        unknown_settings_in_the_file, the_printed_curl_works, a_wide_listener_trusts_nobody, a_weak_secret,
        secrets_are_made_with_a_narrow_mode, an_unknown_command;
];

#[track_caller]
fn failed(result: Result<TestApp, FailedStart>, codes: &[i32], words: &[&str]) {
    let Err(failed) = result else { panic!("the gateway came up, and should not have") };
    let code = failed.status.and_then(|status| status.code());
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{code:?} is none of {codes:?}:\n{}",
        failed.output
    );
    for word in words {
        assert!(failed.output.contains(word), "{word:?} is not said:\n{}", failed.output);
    }
    assert!(!failed.output.contains("panicked"), "a panic is no sentence:\n{}", failed.output);
}

async fn every_mistake_is_reported_at_once(backend: Backend) {
    let settings = Settings::new()
        .env("PORT", "eighty")
        .env("RATE_LIMIT_MAX_REQUESTS", "-1")
        .env("LOG_FORMAT", "xml")
        .env("DEFAULT_TIMEOUT_MS", "soon")
        .env("LOOPBACK_ROLE", "king")
        .env("TRUSTED_NETWORKS", "everywhere")
        .env("RECORD_DURABILITY", "perhaps");
    let words: Vec<&str> = settings.environment.keys().map(String::as_str).collect();
    failed(TestApp::try_start(backend, settings.clone()).await, &[64], &words);
}

async fn a_port_in_use(backend: Backend) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let taken = Settings::new().env("PORT", &port);
    failed(TestApp::try_start(backend, taken).await, &[64, 69], &["PORT", &port]);
    let taken = Settings::new().env("METRICS_PORT", &port);
    failed(TestApp::try_start(backend, taken).await, &[64, 69], &["METRICS_PORT", &port]);
}

async fn a_database_that_is_not_there(backend: Backend) {
    let begun = Instant::now();
    let url = format!("postgres://somebody:s3cret@127.0.0.1:{}/none", free_port());
    let result = TestApp::try_start(backend, Settings::new().env("DATABASE_URL", url)).await;
    if let Err(failed) = &result {
        assert!(!failed.output.contains("s3cret"), "the password is shown:\n{}", failed.output);
    }
    failed(result, &[69], &["DATABASE_URL"]);
    assert!(begun.elapsed() < Duration::from_secs(40), "it takes {:?} to say so", begun.elapsed());
    failed(
        TestApp::try_start(backend, Settings::new().env("DATABASE_URL", "nonsense")).await,
        &[64],
        &["DATABASE_URL"],
    );
    failed(
        TestApp::try_start(backend, Settings::new().env("REDIS_URL", "nonsense")).await,
        &[64],
        &["REDIS_URL"],
    );
}

async fn a_directory_that_is_none(backend: Backend) {
    let scratch = Scratch::new("file");
    std::fs::write(scratch.join("file"), "not a directory").unwrap();
    let settings = Settings::new().env("DATA_DIR", scratch.join("file/below").display());
    failed(TestApp::try_start(backend, settings).await, &[64, 69], &["DATA_DIR"]);
}

async fn unknown_settings_in_the_file(backend: Backend) {
    let settings = Settings::new().file("no_such_setting = 3\n");
    failed(TestApp::try_start(backend, settings).await, &[64], &["no_such_setting"]);
    let settings = Settings::new().file("this is not TOML");
    failed(TestApp::try_start(backend, settings).await, &[64], &["trunkline.toml"]);
    let scratch = Scratch::new("none");
    let arguments = ["--config".to_owned(), "nowhere.toml".to_owned()];
    let output = process::command(&arguments, &[], scratch.path()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("nowhere.toml"), "{said}");
}

async fn a_weak_secret(backend: Backend) {
    failed(
        TestApp::try_start(backend, Settings::new().env("JWT_SECRET", "short")).await,
        &[64],
        &["JWT_SECRET", "32"],
    );
}

async fn an_unknown_command(_: Backend) {
    let scratch = Scratch::new("command");
    let output = process::command(&["dance".to_owned()], &[], scratch.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("dance"));
    let output = process::command(&["--help".to_owned()], &[], scratch.path()).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && help.contains("health-check") && help.contains("migrate"), "{help}");
}

/// A newcomer's first start: nothing is set, and the printed command works as it stands.
async fn the_printed_curl_works(_: Backend) {
    if tests::programs::find("curl", &[]).is_none() {
        not_run("curl is not on this machine");
    }
    let scratch = Scratch::new("newcomer");
    let output = scratch.join("output");
    let file = std::fs::File::create(&output).unwrap();
    let port = free_port().to_string();
    // The default ports may be in use on this machine; nothing else is set.
    let environment = [("PORT".to_owned(), port), ("METRICS_PORT".to_owned(), "0".to_owned())];
    let mut child = process::command(&[], &environment, scratch.path())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    tests::guardian::watch(child.id());
    let until = Instant::now() + Duration::from_secs(60);
    let command = loop {
        let said = std::fs::read_to_string(&output).unwrap();
        if let Some(command) = printed_command(&said) {
            break Ok(command);
        }
        if Instant::now() > until || child.try_wait().unwrap().is_some() {
            break Err(said);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let answered = command.map(|command| {
        let answer = Command::new("sh").args(["-c", &format!("{command} --silent --max-time 10")]).output();
        (String::from_utf8_lossy(&answer.unwrap().stdout).into_owned(), command)
    });
    let made = scratch.join("data").is_dir();
    let _ = child.kill();
    let _ = child.wait();
    tests::guardian::forget(child.id());
    let (answer, command) = answered.unwrap_or_else(|said| panic!("no curl is printed:\n{said}"));
    let body: tests::Value =
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{command}\nis answered with: {answer}"));
    assert!(body["result"].is_object(), "{command}\nis answered with: {body}");
    assert!(made, "what it writes lies under ./data");
}

/// From `curl` to the first line that does not go on, once the whole of it has been written.
fn printed_command(said: &str) -> Option<String> {
    let start = said.find("curl ")?;
    let mut command = String::new();
    for line in said[start..].split_inclusive('\n') {
        let whole = line.strip_suffix('\n')?.trim_end();
        match whole.strip_suffix('\\') {
            Some(part) => command.push_str(part),
            None => return Some(command + whole),
        }
    }
    None
}

async fn a_wide_listener_trusts_nobody(backend: Backend) {
    for (networks, expected) in [(None, 401), (Some("127.0.0.0/8"), 200), (Some("10.0.0.0/8"), 401)] {
        let mut settings = Settings::new().env("HOST", "0.0.0.0");
        if let Some(networks) = networks {
            settings = settings.env("TRUSTED_NETWORKS", networks);
        }
        let app = TestApp::start(backend, settings).await;
        let local = app.anonymous_from_loopback().header("host", "localhost");
        let answer = local.rpc("ping", json!({})).await;
        answer.must(answer.status == expected, &format!("TRUSTED_NETWORKS={networks:?} gives {expected}"));
        app.as_operator().header("host", "localhost").rpc("ping", json!({})).await.result();
    }
}

async fn secrets_are_made_with_a_narrow_mode(backend: Backend) {
    use std::os::unix::fs::PermissionsExt;
    let storage = std::sync::Arc::new(Storage::make(backend).await);
    let app = match TestApp::start_on(storage, Scratch::new("app"), Settings::new()).await {
        Ok(app) => app,
        Err(failed) => panic!("{failed:?}"),
    };
    let mut secrets = 0;
    for entry in std::fs::read_dir(app.data_dir()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{name} can be read by others: {mode:o}");
        secrets += u32::from(name.contains("key"));
    }
    assert!(secrets >= 2, "an operator key and a master key are made at first boot");
}
