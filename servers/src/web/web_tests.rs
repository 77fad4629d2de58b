//! Tests of pages against real HTTP servers on loopback, which the address guard must refuse unless the test
//! opens it.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framework::testing::call;
use protocol::provider::ToolProvider;
use serde_json::{Value, json};

use super::site_tests::{Reply, Site, answer, missing, ok, redirect};
use super::{Web, WebSettings};

fn web(allow: &[&str]) -> Arc<dyn ToolProvider> {
    let allow = allow.iter().map(|network| network.parse().expect("a network")).collect();
    Arc::new(Web::new(WebSettings { allow, patience: Duration::from_secs(2), ..WebSettings::default() }))
}

/// Returns the structured content, or the text of an error.
async fn get(web: &Arc<dyn ToolProvider>, tool: &str, arguments: Value) -> Result<Value, String> {
    let result = call(web, tool, arguments).await.expect("a result");
    let text = result["content"][0]["text"].as_str().expect("a text");
    if result["isError"] == true {
        return Err(text.to_owned());
    }
    assert!(text.starts_with("Untrusted: "), "{text}");
    assert_eq!(result["structuredContent"]["untrusted"], true);
    Ok(result["structuredContent"].clone())
}

async fn fetch(web: &Arc<dyn ToolProvider>, url: &str) -> Result<Value, String> {
    get(web, "fetch_url", json!({ "url": url })).await
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused() {
    let site = Site::start("127.0.0.1", |_| ok("text/plain", "secret")).await;
    let (web, port) = (web(&[]), site.address.port());
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ] {
        for tool in ["fetch_url", "extract_text"] {
            let error =
                get(&web, tool, json!({ "url": format!("http://{host}:{port}/") })).await.unwrap_err();
            assert!(error.contains("only public addresses are fetched"), "{host}: {error}");
        }
    }
    let error = fetch(&web, "http://169.254.169.254/latest/meta-data/").await.unwrap_err();
    assert!(error.contains("metadata"), "{error}");
    assert_eq!(site.requests().len(), 0, "somebody was asked");
}

#[tokio::test]
async fn the_guard_holds_on_every_redirect() {
    let target = Site::start("127.0.0.1", |_| ok("text/plain", "secret")).await;
    let port = target.address.port();
    let site = Site::start("127.0.0.2", move |path| match path {
        "/robots.txt" => missing(),
        "/loopback" => redirect(&format!("http://127.0.0.1:{port}/")),
        "/name" => redirect(&format!("http://localhost:{port}/")),
        "/mapped" => redirect(&format!("http://[::ffff:127.0.0.1]:{port}/")),
        "/number" => redirect(&format!("http://2130706433:{port}/")),
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/two" => redirect("/loopback"),
        "/relative" => redirect(&format!("//127.0.0.1:{port}/")),
        "/file" => redirect("file:///etc/passwd"),
        "/data" => redirect("data:text/plain,secret"),
        "/ftp" => redirect("ftp://example.com/"),
        "/credentials" => redirect("http://user:password@127.0.0.2/"),
        "/nowhere" => redirect("http://[/"),
        "/none" => answer("301 Moved", "", b""),
        _ => missing(),
    })
    .await;
    let web = web(&["127.0.0.2/32"]);
    for (path, part) in [
        ("/loopback", "127.0.0.1 has the address 127.0.0.1, which is loopback"),
        ("/name", "localhost has the address"),
        ("/mapped", "which is loopback"),
        ("/number", "which is loopback"),
        ("/metadata", "metadata"),
        ("/two", "which is loopback"),
        ("/relative", "which is loopback"),
        ("/file", "redirects to an address that cannot be read: `file:` URLs are not fetched"),
        ("/data", "`data:` URLs are not fetched"),
        ("/ftp", "`ftp:` URLs are not fetched"),
        ("/credentials", "user name or password"),
        ("/nowhere", "redirects to an address that cannot be read"),
        ("/none", "no `Location`"),
    ] {
        let error = fetch(&web, &site.url(path)).await.unwrap_err();
        assert!(error.contains(part) && !error.contains("password@"), "{path}: {error}");
        assert!(site.asked(path) > 0, "{path}");
    }
    assert_eq!(target.requests().len(), 0, "the target was asked");
}

#[tokio::test]
async fn redirects_are_followed_five_times_and_carry_nothing() {
    let other = Site::start("127.0.0.1", |path| match path {
        "/end" => ok("text/plain", "the end"),
        _ => missing(),
    })
    .await;
    let end = other.url("/end");
    let site = Site::start("127.0.0.1", move |path| match path {
        "/robots.txt" => missing(),
        "/round" => redirect("/about"),
        "/about" => redirect("/round"),
        "/1" => redirect(&end),
        number => match number[1..].parse::<u32>() {
            Ok(number) => redirect(&format!("/{}", number - 1)),
            Err(_) => missing(),
        },
    })
    .await;
    let web = web(&["127.0.0.1/32"]);
    let page = fetch(&web, &site.url("/5#part")).await.expect("a page");
    assert_eq!((&page["text"], &page["redirects"]), (&json!("the end"), &json!(5)));
    assert_eq!(page["url"], other.url("/end"));
    let error = fetch(&web, &site.url("/6")).await.unwrap_err();
    assert!(error.contains("more than 5 redirects"), "{error}");
    let error = fetch(&web, &site.url("/round")).await.unwrap_err();
    assert!(error.contains("redirects in a circle"), "{error}");
    for request in site.requests().iter().chain(&other.requests()) {
        let request = request.to_ascii_lowercase();
        for header in ["cookie", "authorization", "referer"] {
            assert!(!request.contains(&format!("\r\n{header}:")), "{request}");
        }
    }
}

#[tokio::test]
async fn nothing_but_http_without_credentials() {
    let web = web(&["127.0.0.0/8"]);
    for (url, part) in [
        ("file:///etc/passwd", "`file:` URLs are not fetched"),
        ("ftp://127.0.0.1/", "`ftp:`"),
        ("data:text/plain,x", "`data:`"),
        ("javascript:alert(1)", "`javascript:`"),
        ("gopher://127.0.0.1/", "`gopher:`"),
        ("http://user:password@127.0.0.1/", "user name or password"),
        ("http://user@127.0.0.1/", "user name or password"),
        ("example.com/page", "is not a URL"),
        ("http://", "is not a URL"),
        ("//example.com", "is not a URL"),
        ("http://127.0.0.1/\r\nX-Header: 1", "`url` must match"),
        ("http://127.0.0.1/ HTTP/1.1", "`url` must match"),
    ] {
        let error = fetch(&web, url).await.unwrap_err();
        assert!(error.contains(part) && !error.contains("password@"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_request_has_only_our_headers() {
    let site = Site::start("127.0.0.1", |_| ok("text/plain", "x")).await;
    let crawler = super::Crawler::new("example-bot/1.0").expect("a user agent");
    let allow = vec!["127.0.0.1/32".parse().expect("a network")];
    let web: Arc<dyn ToolProvider> =
        Arc::new(Web::new(WebSettings { allow, crawler, ..WebSettings::default() }));
    fetch(&web, &site.url("/a%0d%0aX-Header:%201?b=%0d%0aX-Other:1")).await.expect("a page");
    let request = site.requests().pop().expect("a request");
    let mut names: Vec<String> = request
        .lines()
        .skip(1)
        .filter_map(|line| line.split(':').next())
        .map(str::to_ascii_lowercase)
        .collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"], "{request}");
    assert!(request.contains("example-bot/1.0"), "{request}");
}

/// Returns a gzip member of zeros.
fn zeros(megabytes: usize) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..megabytes {
        gzip.write_all(&[b'0'; 1_000_000]).expect("memory");
    }
    gzip.finish().expect("memory")
}

#[tokio::test]
async fn bodies_are_bounded_in_size() {
    let gzip = "content-type: text/plain\r\ncontent-encoding: gzip\r\n";
    let (bomb, small) = (zeros(30), zeros(1));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n";
    let site = Site::start("127.0.0.1", move |path| match path {
        "/bomb" => answer("200 OK", gzip, &bomb),
        "/small" => answer("200 OK", gzip, &small),
        "/two" => answer("200 OK", gzip, &[small.clone(), small.clone()].concat()),
        "/members" => Reply::Endless(
            format!("{head}content-encoding: gzip\r\n\r\n").into(),
            small.clone(),
            Duration::ZERO,
        ),
        "/endless" => Reply::Endless(format!("{head}\r\n").into(), vec![b'x'; 10_000], Duration::ZERO),
        "/declared" => Reply::Endless(
            format!("{head}content-length: 999999999\r\n\r\n").into(),
            vec![b'x'; 10_000],
            Duration::ZERO,
        ),
        "/broken" => answer("200 OK", gzip, &small[..small.len() / 2]),
        "/fake" => answer("200 OK", gzip, b"no gzip"),
        "/brotli" => answer("200 OK", "content-type: text/plain\r\ncontent-encoding: br\r\n", b"x"),
        "/largest" => ok("text/plain", vec![b'x'; 5_000_000]),
        "/over" => ok("text/plain", vec![b'x'; 5_000_001]),
        _ => missing(),
    })
    .await;
    let web = web(&["127.0.0.1/32"]);
    for (path, part) in [
        ("/bomb", "larger than 5000000 bytes"),
        ("/members", "larger than 5000000 bytes"),
        ("/endless", "larger than 5000000 bytes"),
        ("/declared", "larger than 5000000 bytes"),
        ("/over", "larger than 5000000 bytes"),
        ("/broken", "gzip and is not"),
        ("/fake", "gzip and is not"),
        ("/brotli", "content coding `br`"),
    ] {
        let started = Instant::now();
        let error = fetch(&web, &site.url(path)).await.unwrap_err();
        assert!(error.contains(part), "{path}: {error}");
        assert!(started.elapsed() < Duration::from_secs(2), "{path}: {:?}", started.elapsed());
    }
    for (path, bytes) in [("/small", 1_000_000), ("/two", 2_000_000), ("/largest", 5_000_000)] {
        let page = fetch(&web, &site.url(path)).await.expect("a page");
        assert_eq!((&page["bytes"], &page["length"]), (&json!(bytes), &json!(bytes)), "{path}");
    }
    // What a closed connection still takes lies in buffers of the system.
    assert!(site.sent() < 60_000_000, "{} bytes were taken", site.sent());
}

#[tokio::test]
async fn bodies_and_answers_are_bounded_in_time() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n".to_vec();
    let site = Site::start("127.0.0.1", move |path| match path {
        "/slow" => Reply::Endless(head.clone(), b"x".to_vec(), Duration::from_millis(50)),
        "/silent" => Reply::Endless(Vec::new(), Vec::new(), Duration::from_millis(50)),
        _ => missing(),
    })
    .await;
    let web = web(&["127.0.0.1/32"]);
    for path in ["/slow", "/silent"] {
        let started = Instant::now();
        let error = fetch(&web, &site.url(path)).await.unwrap_err();
        assert!(error.contains("did not answer completely in time"), "{path}: {error}");
        let took = started.elapsed();
        assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "{path}: {took:?}");
    }
}

#[tokio::test]
async fn what_is_no_text_says_what_it_is() {
    let site = Site::start("127.0.0.1", |path| match path {
        "/image" => ok("image/png", vec![1; 1234]),
        "/pdf" => Reply::Whole(b"HTTP/1.1 200 OK\r\ncontent-type: application/pdf\r\n\r\nx".to_vec()),
        "/hidden" => ok("text/plain", b"\x7fELF\0\0\0"),
        "/none" => answer("200 OK", "", "plain words".as_bytes()),
        "/json" => ok("application/problem+json", r#"{"a":1}"#),
        "/gone" => answer("410 Gone", "content-type: text/plain\r\n", b"gone"),
        "/login" => answer("403 Forbidden", "content-type: text/plain\r\n", b"no"),
        "/failing" => answer("502 Bad Gateway", "", b""),
        _ => missing(),
    })
    .await;
    let web = web(&["127.0.0.1/32"]);
    for (path, part) in [
        ("/image", "image/png of 1234 bytes"),
        ("/pdf", "application/pdf of an unknown size"),
        ("/hidden", "(text/plain, 7 bytes) has zero bytes and is no text"),
        ("/gone", "status 410 (there is no such page)"),
        ("/login", "status 403 (it wants a login, or no programs)"),
        ("/failing", "status 502 (a failure of that host)"),
    ] {
        let error = fetch(&web, &site.url(path)).await.unwrap_err();
        assert!(error.contains(part), "{path}: {error}");
    }
    assert_eq!(fetch(&web, &site.url("/none")).await.expect("a page")["text"], "plain words");
    assert_eq!(fetch(&web, &site.url("/json")).await.expect("a page")["text"], r#"{"a":1}"#);
}

#[tokio::test]
async fn robots_txt_is_obeyed() {
    let rules = "User-agent: trunkline\nDisallow: /private\nUser-agent: *\nDisallow: /";
    let site = Site::start("127.0.0.1", move |path| match path {
        "/robots.txt" => ok("text/plain", rules),
        "/away" => redirect("/private/x?y"),
        _ => ok("text/plain", "x"),
    })
    .await;
    let web = web(&["127.0.0.1/32"]);
    fetch(&web, &site.url("/open")).await.expect("a page");
    for path in ["/private", "/private/x", "/away"] {
        let error = fetch(&web, &site.url(path)).await.unwrap_err();
        assert!(error.contains("robots.txt of 127.0.0.1 does not allow this page for trunkline"), "{error}");
    }
    assert_eq!(site.asked("/private") + site.asked("/private/x") + site.asked("/private/x?y"), 0);
    assert_eq!(site.asked("/robots.txt"), 1, "the rules are kept");

    let failing = Site::start("127.0.0.1", |path| match path {
        "/robots.txt" => answer("503 Unavailable", "", b""),
        _ => ok("text/plain", "x"),
    })
    .await;
    let error = fetch(&web, &failing.url("/")).await.unwrap_err();
    assert!(error.contains("robots.txt of 127.0.0.1 cannot be read (status 503)"), "{error}");
    assert_eq!(failing.asked("/"), 0);

    let away = Site::start("127.0.0.1", |path| match path {
        "/robots.txt" => redirect("http://127.0.0.9/robots.txt"),
        _ => ok("text/plain", "x"),
    })
    .await;
    let error = fetch(&web, &away.url("/")).await.unwrap_err();
    assert!(error.contains("only public addresses"), "{error}");
}

#[tokio::test]
async fn a_host_is_asked_once_at_a_time() {
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nx".to_vec();
    let slow = move |path: &str| match path {
        "/robots.txt" => missing(),
        _ => Reply::Late(Duration::from_millis(50), page.clone()),
    };
    let (one, two) = (Site::start("127.0.0.1", slow.clone()).await, Site::start("127.0.0.2", slow).await);
    let web = web(&["127.0.0.0/30"]);
    let urls: Vec<String> =
        (0..6).flat_map(|n| [one.url(&format!("/{n}")), two.url(&format!("/{n}"))]).collect();
    let pages = futures_util::future::join_all(urls.iter().map(|url| fetch(&web, url))).await;
    assert!(pages.iter().all(Result::is_ok), "{pages:?}");
    for site in [one, two] {
        assert_eq!(site.asked("/5"), 1);
        assert_eq!(site.most_open(), 1, "requests to one host at the same time");
    }
}

#[tokio::test]
async fn pages_are_decoded_and_made_readable() {
    let article = format!(
        "<title>Caf\u{e9}</title><nav>Menu</nav><article>{}</article>",
        "<p>Un caf\u{e9} cr\u{e8}me, s'il vous pla\u{ee}t, et un croissant: a paragraph that is long enough to be \
         counted as content of the page.</p>"
            .repeat(5)
    );
    let latin: Vec<u8> = article.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect();
    let site = Site::start("127.0.0.1", move |path| match path {
        "/latin" => ok("text/html; charset=iso-8859-1", &latin),
        "/markdown" => ok("text/markdown", "# Title\n\u{e0041}text"),
        "/deep" => ok("text/html", "<b>".repeat(50_000)),
        _ => missing(),
    })
    .await;
    let web = web(&["127.0.0.1/32"]);
    let page = get(&web, "extract_text", json!({ "url": site.url("/latin") })).await.expect("a page");
    assert_eq!((&page["title"], &page["charset"]), (&json!("Café"), &json!("windows-1252")));
    assert_eq!((&page["format"], &page["replaced"]), (&json!("main-content"), &json!(false)));
    let text = page["text"].as_str().expect("a text");
    assert!(text.contains("Un café crème, s'il vous plaît") && !text.contains("Menu"), "{text}");

    let whole = json!({ "url": site.url("/latin"), "whole": true, "start_index": 2, "max_length": 5 });
    let page = get(&web, "extract_text", whole).await.expect("a page");
    assert_eq!((&page["text"], &page["nextIndex"]), (&json!("nu\n\nU"), &json!(7)));
    let page = get(&web, "extract_text", json!({ "url": site.url("/markdown") })).await.expect("a page");
    assert_eq!((&page["text"], &page["removed"]), (&json!("# Title\ntext"), &json!(1)));
    let source = fetch(&web, &site.url("/latin")).await.expect("a page");
    assert_eq!(source["text"].as_str(), Some(&*article));
    let error = get(&web, "extract_text", json!({ "url": site.url("/deep") })).await.unwrap_err();
    assert!(error.contains("deep: read its source with fetch_url"), "{error}");
}

#[tokio::test]
async fn hostile_arguments_are_errors_that_name_them() {
    let fitting = json!({
        "search": { "query": "rust" },
        "fetch_url": { "url": "http://127.0.0.1:1/" },
        "extract_text": { "url": "http://127.0.0.1:1/" },
    });
    crate::hostile_tests::refuses_hostile_arguments(&web(&[]), &fitting).await;
}
