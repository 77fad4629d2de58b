//! Tests of search against strict stand-ins of the three providers, which refuse parameters that their APIs do
//! not have, missing headers and wrong keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use framework::testing::{call, request};
use protocol::provider::ToolProvider;
use proxy::egress::Url;
use serde_json::{Value, json};

use super::site_tests::{Reply, Site, answer, ok};
use super::{SearchProvider, Web, WebSettings};

const KEY: &str = "secret-key-1";

type Fits = fn(&str) -> bool;

/// Judges a request as a provider's API does; an error is a status and a reason.
struct Api {
    method: &'static str,
    path: &'static str,
    header: Option<&'static str>,
    /// Parameters of the query with a check of the value, all required.
    query: &'static [(&'static str, Fits)],
    has_body: bool,
}

impl Api {
    fn judge(&self, request: &str) -> Result<(BTreeMap<String, String>, Value), String> {
        let (head, body) = request.split_once("\r\n\r\n").ok_or("no head")?;
        let mut lines = head.lines();
        let mut first = lines.next().ok_or("no line")?.split(' ');
        let url = format!("http://x{}", first.clone().nth(1).ok_or("no target")?);
        let url = Url::parse(&url).map_err(|error| error.to_string())?;
        if first.next() != Some(self.method) || url.path() != self.path {
            return Err(format!("404 {request}"));
        }
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        if headers.get("accept").map(String::as_str) != Some("application/json") {
            return Err("406 Accept".to_owned());
        }
        if let Some(header) = self.header {
            let expected = if header == "authorization" { format!("Bearer {KEY}") } else { KEY.to_owned() };
            if headers.get(header) != Some(&expected) {
                return Err("401 Unauthorized".to_owned());
            }
        }
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let given = BTreeMap::from_iter(pairs.clone());
        let fits = pairs.len() == self.query.len()
            && self.query.iter().all(|(name, fits)| given.get(*name).is_some_and(|value| fits(value)));
        if !fits {
            return Err(format!("422 query {pairs:?}"));
        }
        if !self.has_body {
            return if body.is_empty() { Ok((given, Value::Null)) } else { Err("422 a body".to_owned()) };
        }
        if headers.get("content-type").map(String::as_str) != Some("application/json") {
            return Err("415 Content-Type".to_owned());
        }
        let body: Value = serde_json::from_str(body).map_err(|error| format!("400 {error}"))?;
        let members = body.as_object().ok_or("422 no object")?;
        let fits = members.len() == 2
            && body["query"].as_str().is_some_and(|query| !query.is_empty())
            && body["max_results"].as_u64().is_some_and(|count| count <= 20);
        if fits { Ok((given, body)) } else { Err(format!("422 body {body}")) }
    }
}

fn is_count(value: &str) -> bool {
    value.parse::<u32>().is_ok_and(|count| (1..=20).contains(&count))
}

const SEARXNG: Api = Api {
    method: "GET",
    path: "/searx/search",
    header: None,
    query: &[("q", |value| !value.is_empty()), ("format", |value| value == "json")],
    has_body: false,
};

const BRAVE: Api = Api {
    method: "GET",
    path: "/res/v1/web/search",
    header: Some("x-subscription-token"),
    query: &[
        ("q", |value| !value.is_empty() && value.len() <= 400),
        ("count", is_count),
        ("text_decorations", |value| value == "false"),
    ],
    has_body: false,
};

const TAVILY: Api =
    Api { method: "POST", path: "/search", header: Some("authorization"), query: &[], has_body: true };

fn results(text: &str, count: usize) -> Vec<Value> {
    let one = |n| json!({ "url": format!("https://example.com/{n}"), "title": "A\ntitle", text: "words" });
    (0..count).map(one).collect()
}

/// Starts an API that answers with what it should, or with the reason for which it refuses.
async fn start(api: Api, answers: Value) -> Site {
    Site::start_with("127.0.0.1", move |request| match api.judge(request) {
        Ok((_, _)) => ok("application/json", answers.to_string()),
        Err(reason) => answer(&format!("{reason} {KEY}"), "", b""),
    })
    .await
}

fn web(search: Vec<SearchProvider>) -> Arc<dyn ToolProvider> {
    Arc::new(Web::new(WebSettings { search, ..WebSettings::default() }))
}

fn at(provider: Result<SearchProvider, String>, site: &Site, path: &str) -> SearchProvider {
    provider.expect("a provider").at(Url::parse(&site.url(path)).expect("a URL"))
}

async fn search(web: &Arc<dyn ToolProvider>, arguments: Value) -> Result<Value, String> {
    let result = call(web, "search", arguments).await.expect("a result");
    let text = result.to_string();
    assert!(!text.contains("secret"), "the key is shown: {text}");
    let text = result["content"][0]["text"].as_str().expect("a text").to_owned();
    if result["isError"] == true { Err(text) } else { Ok(result["structuredContent"].clone()) }
}

#[tokio::test]
async fn each_provider_is_asked_as_its_api_says() {
    let searxng = json!({ "query": "q", "number_of_results": 0, "results": [
        { "url": "https://example.com/0", "title": "A", "content": "words", "engine": "wikipedia", "score": 1 },
        { "url": "https://example.com/1", "title": "B", "content": null, "engine": "bing" },
        { "url": "https://example.com/2", "title": "C", "engine": "bing" },
    ] });
    let searxng = start(SEARXNG, searxng).await;
    let brave =
        start(BRAVE, json!({ "type": "search", "web": { "results": results("description", 30) } })).await;
    let tavily = start(TAVILY, json!({ "query": "q", "results": results("content", 3) })).await;
    let web = web(vec![
        SearchProvider::searxng(&searxng.url("/searx?x=y")).expect("an address"),
        at(SearchProvider::brave(KEY), &brave, "/res/v1/web/search"),
        at(SearchProvider::tavily(KEY), &tavily, "/search"),
    ]);
    let query = "rust & \"axum\" #1 ü?";
    for (provider, count, expected) in [("searxng", 2, 2), ("brave", 20, 20), ("tavily", 10, 3)] {
        let arguments = json!({ "query": query, "count": count, "provider": provider });
        let found = search(&web, arguments).await.expect("results");
        assert_eq!((&found["provider"], &found["untrusted"]), (&json!(provider), &json!(true)));
        let results = found["results"].as_array().expect("results");
        assert_eq!(results.len(), expected, "{provider}");
        assert_eq!(results[0]["url"], "https://example.com/0");
        assert_eq!(results[0]["snippet"], "words");
        let source = if provider == "searxng" { "wikipedia" } else { provider };
        assert_eq!(results[0]["source"], source);
    }
    let asked = searxng.requests().pop().expect("a request");
    assert!(asked.contains("q=rust+%26+%22axum%22+%231+%C3%BC%3F&format=json"), "{asked}");
    assert_eq!(search(&web, json!({ "query": "x" })).await.expect("results")["provider"], "searxng");
}

#[tokio::test]
async fn failures_say_what_to_do_and_show_no_key() {
    let brave = start(BRAVE, json!({})).await;
    let wrong = |key: &str| at(SearchProvider::brave(key), &brave, "/res/v1/web/search");
    let error = search(&web(vec![wrong("secret-other")]), json!({ "query": "x" })).await.unwrap_err();
    assert!(error.contains("Brave refused the key"), "{error}");
    let error = search(&web(vec![wrong(KEY)]), json!({ "query": "x" })).await.unwrap_err();
    assert!(error.contains("something other than the JSON"), "{error}");
    let tavily = start(TAVILY, json!({})).await;
    let provider = at(SearchProvider::tavily("secret-other"), &tavily, "/search");
    let error = search(&web(vec![provider]), json!({ "query": "x" })).await.unwrap_err();
    assert!(error.contains("Tavily refused the key"), "{error}");

    for (status, part) in [
        ("403 Forbidden", "add `json` to `search.formats`"),
        ("429 Too Many Requests", "takes no more searches now (429)"),
        ("422 Unprocessable", "refused the search with status 422"),
        ("500 Internal Server Error", "failed with status 500"),
        ("302 Found", "failed with status 302"),
        ("200 OK", "something other than the JSON"),
    ] {
        let site = Site::start("127.0.0.1", move |_| {
            answer(status, "location: /elsewhere\r\ncontent-type: text/html\r\n", b"<p>secret")
        })
        .await;
        let searxng = SearchProvider::searxng(&site.url("")).expect("an address");
        let error = search(&web(vec![searxng]), json!({ "query": "x" })).await.unwrap_err();
        assert!(error.contains(part), "{status}: {error}");
        assert_eq!(site.requests().len(), 1, "{status}: a redirect was followed");
    }
    let huge = Site::start("127.0.0.1", |_| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[".to_vec();
        Reply::Endless(head, vec![b' '; 100_000], std::time::Duration::ZERO)
    })
    .await;
    let searxng = SearchProvider::searxng(&huge.url("")).expect("an address");
    let error = search(&web(vec![searxng]), json!({ "query": "x" })).await.unwrap_err();
    assert!(error.contains("larger than 2000000 bytes"), "{error}");
}

#[tokio::test]
async fn without_a_provider_a_call_says_how_to_set_one() {
    let without = web(Vec::new());
    let listed = request(&without, "tools/list", json!({})).await.expect("a list");
    let description = listed["tools"][0]["description"].as_str().expect("a description");
    assert!(description.starts_with("Not set up"), "{description}");
    let result = call(&without, "search", json!({ "query": "x" })).await.expect("a result");
    assert_eq!(
        (&result["isError"], &result["_meta"]["trunkline/refusal"]["code"]),
        (&json!(true), &json!("not_configured"))
    );
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("--searxng URL") && text.contains("BRAVE_API_KEY or TAVILY_API_KEY"), "{text}");

    let brave = web(vec![SearchProvider::brave(KEY).expect("a key")]);
    let error = search(&brave, json!({ "query": "x", "provider": "tavily" })).await.unwrap_err();
    assert!(error.contains("Tavily is not set up, but Brave is"), "{error}");
    let listed = request(&brave, "tools/list", json!({})).await.expect("a list");
    assert!(listed["tools"][0]["description"].as_str().is_some_and(|text| text.starts_with("Searches")));
}

/// The addresses of providers may be private; pages stay refused there.
#[tokio::test]
async fn a_provider_opens_nothing_for_pages() {
    let searxng = start(SEARXNG, json!({ "results": [] })).await;
    let web = web(vec![SearchProvider::searxng(&searxng.url("/searx/")).expect("an address")]);
    assert!(search(&web, json!({ "query": "x" })).await.is_ok());
    let result =
        call(&web, "fetch_url", json!({ "url": searxng.url("/searx/search") })).await.expect("a result");
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(searxng.requests().len(), 1);
}
