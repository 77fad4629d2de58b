//! Publication in the marketplace: versions, ownership, ratings, counts, imports and the reference servers.

use std::path::Path;

use reqwest::Method;
use sea_orm::{ConnectionTrait, Database};
use tests::jwt::Provider;
use tests::{Actor, Answer, Backend, Case, Code, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: versions_are_published_and_deleted, a_name_is_its_first_publishers, ratings_are_one_of_each_tenant,
        what_was_approved_is_what_is_installed, an_import_is_idempotent, another_registry_is_imported,
        the_reference_servers_are_seeded, ten_thousand_entries_are_searched;
    Once: wrong_publications, featured_entries_are_the_operators, a_registry_is_read_within_bounds;
];

const REGISTRY: &str = "/v1/mcp/registry";
const WEATHER: &str = "/v1/mcp/registry/com.example%2Fweather";
const OFFICIAL: &str = "/v0.1/servers/com.example%2Fweather/versions";
const TIME: &str = "/v1/mcp/registry/io.github.modelcontextprotocol%2Fserver-time";
const MARK: &str = "io.modelcontextprotocol.registry/official";

fn document(name: &str, version: &str) -> Value {
    json!({
        "name": name,
        "title": "Weather",
        "description": format!("Forecasts of release {version}"),
        "version": version,
        "packages": [{ "registryType": "npm", "identifier": "@example/weather", "version": version }],
        "_meta": { "com.example/kept": [1, 2] },
    })
}

fn publication(name: &str, version: &str) -> Value {
    json!({ "server": document(name, version), "category": "utilities", "tags": ["weather", "maps"] })
}

async fn publish(actor: &Actor, version: &str) -> Answer {
    actor.post(REGISTRY, publication("com.example/weather", version)).await
}

async fn rate(actor: &Actor, path: &str, body: Value) -> Answer {
    actor.send_json(Method::PUT, &format!("{path}/rating"), body.to_string()).await
}

async fn versions_are_published_and_deleted(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (acme, other) = (app.as_tenant_admin("acme").await, app.as_tenant_admin("other").await);
    let answer = publish(&acme, "1.9.0").await;
    let entry = answer.json_of(201);
    assert_eq!(answer.header("location"), Some(WEATHER));
    assert_eq!(
        (&entry["mine"], &entry["source"], &entry["status"]),
        (&json!(true), &json!("published"), &json!("active"))
    );
    assert_eq!((&entry["rating"], &entry["installs"]), (&json!({ "average": null, "count": 0 }), &json!(0)));
    assert_eq!(entry["server"]["_meta"], json!({ "com.example/kept": [1, 2] }), "what is not used is kept");
    for version in ["1.10.0", "2.0.0-rc.1", "1.2.0"] {
        publish(&acme, version).await.status(201);
    }
    let seen = other.get(WEATHER).await;
    let entry = seen.json_of(200);
    assert_eq!((&entry["version"], &entry["mine"]), (&json!("1.10.0"), &json!(false)));
    seen.must(!seen.text().contains("acme") && !seen.text().contains("ten_"), "the publisher is not shown");
    assert_eq!(entry["description"], "Forecasts of release 1.10.0");

    let versions = other.get(OFFICIAL).await.json_of(200)["servers"].as_array().unwrap().clone();
    let shown: Vec<(&str, bool)> = versions
        .iter()
        .map(|one| (one["server"]["version"].as_str().unwrap(), one["_meta"][MARK]["isLatest"] == true))
        .collect();
    assert_eq!(shown, [("1.10.0", true), ("1.9.0", false), ("1.2.0", false), ("2.0.0-rc.1", false)]);

    let again = publish(&acme, "1.9.0").await;
    let problem = again.problem(Code::Conflict);
    again.must(problem["detail"].as_str().unwrap().contains("versions never change"), "it says why");

    let deprecated = json!({ "version": "1.10.0", "status": "deprecated", "statusMessage": "Use 2." });
    let entry = acme.patch(WEATHER, deprecated).await.json_of(200);
    assert_eq!((&entry["status"], &entry["statusMessage"]), (&json!("deprecated"), &json!("Use 2.")));
    let before = jiff::Timestamp::now();
    acme.delete(&format!("{WEATHER}/versions/1.10.0")).await.status(204);
    acme.delete(&format!("{WEATHER}/versions/1.10.0")).await.problem(Code::NotFound);
    let entry = other.get(WEATHER).await.json_of(200);
    assert_eq!((&entry["version"], &entry["status"]), (&json!("1.9.0"), &json!("active")));
    publish(&acme, "1.10.0").await.problem(Code::Conflict);
    let gone = other.get(&format!("{OFFICIAL}/1.10.0")).await.json_of(200);
    assert_eq!(
        (&gone["_meta"][MARK]["status"], &gone["_meta"][MARK]["isLatest"]),
        (&json!("deleted"), &json!(false))
    );
    let latest = other.get(&format!("{OFFICIAL}/latest")).await.json_of(200);
    assert_eq!(latest["server"]["version"], "1.9.0");

    let list = |query: String| {
        let other = other.clone();
        async move { other.get(&format!("/v0.1/servers?search=WEATHER{query}")).await.json_of(200) }
    };
    assert_eq!(list(String::new()).await["metadata"]["count"], 3, "a deleted version is not listed");
    let changed = list(format!("&updated_since={before}")).await;
    assert_eq!(
        changed["servers"].as_array().unwrap().len(),
        1,
        "but for those who ask for changes: {changed}"
    );
    assert_eq!(list("&version=latest".to_owned()).await["metadata"]["count"], 1);
    assert_eq!(list("&version=1.2.0".to_owned()).await["servers"][0]["server"]["version"], "1.2.0");
    let first = list("&limit=2".to_owned()).await;
    let cursor = first["metadata"]["nextCursor"].as_str().unwrap().replace('/', "%2F");
    let second = list(format!("&limit=2&cursor={cursor}")).await;
    assert_eq!((&second["metadata"]["count"], &second["metadata"]["nextCursor"]), (&json!(1), &Value::Null));

    for version in ["1.9.0", "1.2.0"] {
        acme.delete(&format!("{WEATHER}/versions/{version}")).await.status(204);
    }
    assert_eq!(acme.get(WEATHER).await.json_of(200)["version"], "2.0.0-rc.1", "no release is left");
    acme.delete(&format!("{WEATHER}/versions/2.0.0-rc.1")).await.status(204);
    acme.get(WEATHER).await.problem(Code::NotFound);
    let audit = acme.get("/v1/audit").await.text();
    assert!(audit.contains("registry.publish") && audit.contains("com.example/weather@1.9.0"), "{audit}");
}

async fn a_name_is_its_first_publishers(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (acme, other) = (app.as_tenant_admin("acme").await, app.as_tenant_admin("other").await);
    publish(&acme, "1.0.0").await.status(201);
    let taken = publish(&other, "1.1.0").await;
    let problem = taken.problem(Code::Conflict);
    taken.must(problem["detail"].as_str().unwrap().contains("another publisher"), "it says why");
    taken.must(!taken.text().contains("acme"), "and not whose it is");
    let curated = publication("io.github.modelcontextprotocol/server-time", "9999.0.0");
    let problem = acme.post(REGISTRY, curated).await.problem(Code::Conflict);
    assert!(problem["detail"].as_str().unwrap().contains("comes with the program"), "{problem}");
    for path in [WEATHER, TIME] {
        other.patch(path, json!({ "status": "deprecated" })).await.problem(Code::MissingScope);
    }
    other.delete(&format!("{WEATHER}/versions/1.0.0")).await.problem(Code::MissingScope);
    other.delete(&format!("{TIME}/versions/2026.10.19")).await.problem(Code::MissingScope);
    app.as_agent("alice").await.post(REGISTRY, publication("a/b", "1.0.0")).await.problem(Code::MissingScope);
    assert_eq!(other.get(WEATHER).await.json_of(200)["version"], "1.0.0");
    let mine = acme.get(&format!("{REGISTRY}?mine=true")).await.json_of(200);
    assert_eq!((&mine["total"], &mine["items"][0]["name"]), (&json!(1), &json!("com.example/weather")));
    assert_eq!(other.get(&format!("{REGISTRY}?mine=true")).await.json_of(200)["total"], 0);
    let operator = app.as_operator();
    operator.delete(&format!("{WEATHER}/versions/1.0.0")).await.status(204);
    acme.get(WEATHER).await.problem(Code::NotFound);
}

async fn ratings_are_one_of_each_tenant(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (acme, other) = (app.as_tenant_admin("acme").await, app.as_tenant_admin("other").await);
    let operator = app.as_operator();
    publish(&acme, "1.0.0").await.status(201);
    let own = rate(&acme, WEATHER, json!({ "stars": 5 })).await;
    let problem = own.problem(Code::Conflict);
    own.must(problem["detail"].as_str().unwrap().contains("own"), "it says why");
    rate(&other, WEATHER, json!({ "stars": 1 })).await.status(200);
    let rated = rate(&other, WEATHER, json!({ "stars": 2, "review": "It rains." })).await.json_of(200);
    assert_eq!((&rated["stars"], &rated["mine"]), (&json!(2), &json!(true)));
    rate(&operator, WEATHER, json!({ "stars": 5 })).await.status(200);
    let entry = acme.get(WEATHER).await.json_of(200);
    assert_eq!(entry["rating"], json!({ "average": 3.5, "count": 2 }), "one of each tenant");
    let answer = operator.get(&format!("{WEATHER}/ratings")).await;
    let all = answer.json_of(200);
    let shown: Vec<(&Value, &Value, &Value)> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["stars"], &one["review"], &one["mine"]))
        .collect();
    let rain = json!("It rains.");
    assert_eq!(shown, [(&json!(5), &Value::Null, &json!(true)), (&json!(2), &rain, &json!(false))]);
    answer.must(!answer.text().contains("ten_"), "no tenant is shown");
    other.delete(&format!("{WEATHER}/rating")).await.status(204);
    other.delete(&format!("{WEATHER}/rating")).await.problem(Code::NotFound);
    let entry = acme.get(WEATHER).await.json_of(200);
    assert_eq!(entry["rating"], json!({ "average": 5.0, "count": 1 }));
    for (body, part) in [
        (json!({ "stars": 6 }), "stars is a whole number from 1 to 5"),
        (json!({}), "stars is missing"),
        (json!({ "stars": 3, "name": "x" }), "name is not known"),
    ] {
        let answer = rate(&other, WEATHER, body).await;
        let problem = answer.problem(Code::ValidationFailed);
        answer.must(problem["detail"].as_str().unwrap().contains(part), part);
    }
    rate(&other, "/v1/mcp/registry/a%2Fb", json!({ "stars": 3 })).await.problem(Code::NotFound);
    other.get("/v1/mcp/registry/a%2Fb/ratings").await.problem(Code::NotFound);
    rate(&app.as_agent("alice").await, WEATHER, json!({ "stars": 3 })).await.problem(Code::MissingScope);
}

/// What is published cannot choose what is executed: a plan that was approved is that of one version.
async fn what_was_approved_is_what_is_installed(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (acme, operator) = (app.as_tenant_admin("acme").await, app.as_operator());
    publish(&acme, "1.0.0").await.status(201);
    let install = format!("{WEATHER}/install");
    let plan = operator.post(&install, json!({})).await.json_of(200);
    assert_eq!((&plan["command"], &plan["args"]), (&json!("npx"), &json!(["-y", "@example/weather@1.0.0"])));
    let mut evil = publication("com.example/weather", "1.0.1");
    evil["server"]["packages"][0]["identifier"] = "@example/other".into();
    evil["server"]["packages"][0]["environmentVariables"] = json!([{ "name": "MODE", "value": "fast" }]);
    acme.post(REGISTRY, evil).await.status(201);
    let approved = json!({ "approve": plan["digest"] });
    let refused = operator.post(&install, approved.clone()).await;
    assert!(refused.problem(Code::Conflict)["detail"].as_str().unwrap().contains("another one"));
    operator.get("/v1/mcp/servers/weather").await.problem(Code::NotFound);
    let changed = operator.post(&install, json!({})).await.json_of(200);
    assert_ne!(changed["digest"], plan["digest"]);
    assert_eq!(
        changed["fixed"],
        json!({ "MODE": "fast" }),
        "what the entry sets is seen before it is approved"
    );

    // The version that was looked at can still be installed, by those who may run programs.
    let mut wanted = approved;
    wanted["version"] = "1.0.0".into();
    acme.post(&install, wanted.clone()).await.problem(Code::MissingScope);
    let server = operator.post(&install, wanted).await.json_of(201);
    assert_eq!((&server["args"], &server["version"]), (&plan["args"], &json!("1.0.0")));
    assert_eq!(acme.get(WEATHER).await.json_of(200)["installs"], 1, "a refused one does not count");
    let second = json!({ "slug": "weather-2", "approve": changed["digest"] });
    operator.post(&install, second).await.status(201);
    assert_eq!(acme.get(WEATHER).await.json_of(200)["installs"], 1, "a tenant counts once");

    let mut remote = publication("com.example/hosted", "1.0.0");
    remote["server"].as_object_mut().unwrap().remove("packages");
    remote["server"]["remotes"] = json!([{
        "type": "streamable-http", "url": "https://{place}.example.com/mcp",
        "variables": { "place": { "isRequired": true } },
    }]);
    acme.post(REGISTRY, remote).await.status(201);
    for (actor, place, installs) in [(&acme, "north", 1), (&operator, "south", 2)] {
        let path = format!("{REGISTRY}/com.example%2Fhosted");
        let mut body = json!({ "inputs": { "place": place } });
        let plan = actor.post(&format!("{path}/install"), body.clone()).await.json_of(200);
        assert_eq!(plan["url"], format!("https://{place}.example.com/mcp"));
        body["approve"] = plan["digest"].clone();
        actor.post(&format!("{path}/install"), body).await.status(201);
        assert_eq!(acme.get(&path).await.json_of(200)["installs"], installs);
    }
    operator.delete(&format!("{WEATHER}/versions/1.0.0")).await.status(204);
    operator.post(&install, json!({ "version": "1.0.0" })).await.problem(Code::NotFound);
    let audit = operator.get("/v1/audit").await.text();
    assert!(
        audit.contains("registry.install") && audit.contains(plan["digest"].as_str().unwrap()),
        "{audit}"
    );
}

fn outcomes(answer: &Value) -> Vec<(String, String)> {
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or("-").to_owned();
    let items = answer["items"].as_array().unwrap().iter();
    items.map(|item| (text(item, "version"), text(item, "outcome"))).collect()
}

fn expected(outcomes: &[(&str, &str)]) -> Vec<(String, String)> {
    outcomes.iter().map(|(version, outcome)| ((*version).to_owned(), (*outcome).to_owned())).collect()
}

async fn an_import_is_idempotent(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, acme) = (app.as_operator(), app.as_tenant_admin("acme").await);
    let path = "/v1/mcp/registry/import";
    let wrapped = |status: &str| {
        let facts =
            json!({ MARK: { "status": status, "publishedAt": "2025-01-02T03:04:05Z", "isLatest": true } });
        json!({ "server": document("com.example/weather", "1.1.0"), "_meta": facts })
    };
    let mut servers = vec![
        document("com.example/weather", "1.0.0"),
        wrapped("active"),
        document("com.example/weather", "not-semantic"),
        document("io.github.modelcontextprotocol/server-time", "9999.0.0"),
        json!({ "version": "0.0.1" }),
    ];
    let first = operator.post(path, json!({ "servers": servers })).await.json_of(200);
    let refused = [("not-semantic", "refused"), ("9999.0.0", "refused"), ("0.0.1", "refused")];
    assert_eq!(
        outcomes(&first),
        expected(&[&[("1.0.0", "added"), ("1.1.0", "added")], &refused[..]].concat())
    );
    assert_eq!(
        (&first["added"], &first["refused"], &first["incomplete"]),
        (&json!(2), &json!(3), &Value::Null)
    );
    assert!(first["items"][2]["reason"].as_str().unwrap().contains("semantic version"), "{first}");
    assert!(first["items"][3]["reason"].as_str().unwrap().contains("comes with the program"), "{first}");
    let entry = acme.get(WEATHER).await.json_of(200);
    let (source, mine) = (&entry["source"], &entry["mine"]);
    assert_eq!((&entry["version"], source, mine), (&json!("1.1.0"), &json!("imported"), &json!(false)));
    let official = acme.get(&format!("{OFFICIAL}/1.1.0")).await.json_of(200);
    assert_eq!(official["_meta"][MARK]["publishedAt"], "2025-01-02T03:04:05Z");

    let again = operator.post(path, json!({ "servers": servers })).await.json_of(200);
    assert_eq!(outcomes(&again)[..2], expected(&[("1.0.0", "unchanged"), ("1.1.0", "unchanged")])[..]);
    servers[0]["description"] = "Something else".into();
    servers[1] = wrapped("deleted");
    let third = operator.post(path, json!({ "servers": servers })).await.json_of(200);
    assert_eq!(outcomes(&third)[..2], expected(&[("1.0.0", "refused"), ("1.1.0", "updated")])[..]);
    assert_eq!(acme.get(WEATHER).await.json_of(200)["version"], "1.0.0", "the deleted one is not the latest");
    publish(&acme, "2.0.0").await.problem(Code::Conflict);
    acme.post(path, json!({ "servers": servers })).await.problem(Code::MissingScope);
    for body in [json!({}), json!({ "servers": [], "url": "https://h.example" }), json!({ "url": "ftp://h" })]
    {
        operator.post(path, body).await.problem(Code::ValidationFailed);
    }

    // What a registry says of a version is not guessed.
    for (name, value) in
        [("status", json!("asleep")), ("publishedAt", json!("yesterday")), ("status", json!(7))]
    {
        let element =
            json!({ "server": document("com.example/moon", "1.0.0"), "_meta": { MARK: { name: value } } });
        let said = operator.post(path, json!({ "servers": [element] })).await.json_of(200);
        assert_eq!(said["refused"], 1, "{said}");
        assert!(said["items"][0]["reason"].as_str().unwrap().contains(name), "{said}");
    }

    // The command works while the gateway runs, and says the same.
    let file = app.path("servers.json");
    std::fs::write(&file, json!({ "servers": [document("com.example/tides", "1.0.0")] }).to_string())
        .unwrap();
    for wanted in ["1 added, 0 updated, 0 unchanged, 0 refused", "0 added, 0 updated, 1 unchanged, 0 refused"]
    {
        let said = command(&app, &operator, &["registry", "import", file.to_str().unwrap()]);
        assert!(said.contains(wanted), "{said}");
    }
    acme.get("/v1/mcp/registry/com.example%2Ftides").await.status(200);

    // A web page is no gateway, and no server is there already because of its 200.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let page = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request), Ok(1..)) {
                let page = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
                drop(stream.write_all(page.as_bytes()));
            }
        }
    });
    let elsewhere = app.command(&["seed"]).env("MCP_GATEWAY_URL", page).output().unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert_eq!(elsewhere.status.code(), Some(69), "{said}");
    assert!(said.contains("not the JSON that was expected"), "{said}");
}

/// Runs a command beside the running gateway; returns its output, after it succeeded.
fn command(app: &TestApp, actor: &Actor, arguments: &[&str]) -> String {
    let base = actor.url("");
    let output = app.command(arguments).env("MCP_GATEWAY_URL", base).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Plays a registry with so many versions, two on a page, below `/hub`.
fn registry(count: usize) -> Provider {
    Provider::serve(move |base, path| {
        let url = reqwest::Url::parse(&format!("{base}{path}")).unwrap();
        let query =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        if url.path() != "/hub/v0.1/servers" || query("limit").is_none() {
            return None;
        }
        let start: usize =
            query("cursor").map_or(0, |cursor| cursor.strip_prefix("a/b:").unwrap().parse().unwrap());
        let one = |at: usize| json!({ "server": document("com.example/weather", &format!("1.{at}.0")), "_meta": {} });
        let servers: Vec<Value> = (start..count.min(start + 2)).map(one).collect();
        let mut metadata = json!({ "count": servers.len() });
        if start + 2 < count {
            metadata["nextCursor"] = format!("a/b:{}", start + 2).into();
        }
        Some(json!({ "servers": servers, "metadata": metadata }))
    })
}

async fn another_registry_is_imported(backend: Backend) {
    let app = TestApp::start(backend, Settings::new().env("EGRESS_ALLOW", "127.0.0.0/8")).await;
    let operator = app.as_operator();
    let hub = registry(5);
    let body = json!({ "url": hub.at("/hub/") , "category": "mirrored" });
    let first = operator.post("/v1/mcp/registry/import", body.clone()).await.json_of(200);
    assert_eq!((&first["added"], &first["incomplete"], hub.asked()), (&json!(5), &Value::Null, 3));
    let again = operator.post("/v1/mcp/registry/import", body).await.json_of(200);
    assert_eq!((&again["added"], &again["unchanged"]), (&json!(0), &json!(5)));
    let entry = operator.get(WEATHER).await.json_of(200);
    assert_eq!((&entry["version"], &entry["category"]), (&json!("1.4.0"), &json!("mirrored")));
    operator
        .post("/v1/mcp/registry/import", json!({ "url": hub.at("/other") }))
        .await
        .problem(Code::UpstreamFailed);
}

async fn a_registry_is_read_within_bounds(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let hub = registry(5);
    let refused = app.as_operator().post("/v1/mcp/registry/import", json!({ "url": hub.at("/hub") })).await;
    let problem = refused.problem(Code::ValidationFailed);
    refused
        .must(problem["detail"].as_str().unwrap().contains("EGRESS_ALLOW"), "a private address is refused");
    assert_eq!(hub.asked(), 0);
    drop(app);
    let app = TestApp::start(backend, Settings::new().env("EGRESS_ALLOW", "127.0.0.0/8")).await;
    let circle = Provider::serve(|_, _| {
        Some(
            json!({ "servers": [document("com.example/weather", "1.0.0")], "metadata": { "nextCursor": "x" } }),
        )
    });
    let body = json!({ "url": circle.at("") });
    let answer = app.as_operator().post("/v1/mcp/registry/import", body).await.json_of(200);
    assert_eq!((&answer["added"], &answer["unchanged"], circle.asked()), (&json!(1), &json!(1), 2));
    assert!(answer["incomplete"].as_str().unwrap().contains("same cursor"), "{answer}");
}

async fn the_reference_servers_are_seeded(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let repository = format!("git.--repository={}", app.path("repository").display());
    let first = command(&app, &operator, &["seed"]);
    let line = |said: &str, slug: &str| {
        said.lines().find(|line| line.split(' ').next() == Some(slug)).unwrap_or_default().to_owned()
    };
    for (slug, part) in [
        ("everything", "added; needs npx on the PATH"),
        ("fetch", "added; needs uvx on the PATH"),
        ("filesystem", "added; needs npx on the PATH"),
        ("git", "needs input --repository: --input git.--repository=…"),
        ("memory", "added; needs npx"),
        ("sequential-thinking", "added; needs npx"),
        ("time", "added; needs uvx"),
    ] {
        assert!(line(&first, slug).contains(part), "{slug}: {first}");
    }
    let files = operator.get("/v1/mcp/servers/filesystem").await.json_of(200);
    let directory = files["args"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    assert!(directory.ends_with("/data/files") && Path::new(&directory).is_dir(), "{directory}");
    assert_eq!(files["scope"], "tenant");
    let others = app.as_tenant_admin("acme").await.get("/v1/mcp/servers/filesystem").await.json_of(200);
    assert_eq!(others["managedBy"], "builtin", "another tenant has that of the gateway");
    let entry = operator.get(TIME).await.json_of(200);
    assert_eq!(entry["installs"], 1, "it is the same installation");

    let second = command(&app, &operator, &["seed"]);
    assert!(line(&second, "time").contains("already there") && line(&second, "git").contains("needs input"));

    // Without a gateway the command works on the database.
    app.terminate(std::time::Duration::from_secs(20)).await;
    let output = app.command(&["seed", "--input", &repository]).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        line(&said, "git").contains("added; needs uvx") && line(&said, "time").contains("already there"),
        "{said}"
    );
    app.boot(None).await;
    let operator = app.as_operator();
    let servers = operator.get("/v1/mcp/servers?pageSize=100").await.json_of(200);
    let own = servers["items"].as_array().unwrap().iter().filter(|item| item["managedBy"] != "builtin");
    let slugs: Vec<&str> = own.map(|item| item["slug"].as_str().unwrap()).collect();
    for slug in ["everything", "fetch", "filesystem", "git", "memory", "sequential-thinking", "time"] {
        assert_eq!(slugs.iter().filter(|one| **one == slug).count(), 1, "{slug} in {slugs:?}");
    }
}

async fn featured_entries_are_the_operators(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let (operator, acme) = (app.as_operator(), app.as_tenant_admin("acme").await);
    publish(&acme, "1.0.0").await.status(201);
    for member in ["featured", "verified"] {
        let refused = acme.patch(WEATHER, json!({ member: true })).await.problem(Code::MissingScope);
        assert_eq!(refused["rule"], "scope tenants:admin");
        let total = |app: &Actor| {
            let app = app.clone();
            async move { app.get(&format!("{REGISTRY}?{member}=true")).await.json_of(200)["total"].clone() }
        };
        assert_eq!(total(&acme).await, 0);
        for path in [WEATHER, TIME] {
            assert_eq!(operator.patch(path, json!({ member: true })).await.json_of(200)[member], true);
        }
        assert_eq!(total(&acme).await, 2);
    }
    acme.patch(WEATHER, json!({ "tags": ["rain"], "category": "sky" })).await.status(200);
    let found =
        acme.get(&format!("{REGISTRY}?tag=rain&category=sky&transport=stdio&search=RAIN")).await.json_of(200);
    assert_eq!((&found["total"], &found["items"][0]["featured"]), (&json!(1), &json!(true)));
    assert_eq!(acme.get(&format!("{REGISTRY}?tag=weather")).await.json_of(200)["total"], 0);
    operator.patch(TIME, json!({ "category": "clocks" })).await.problem(Code::Conflict);
    for body in
        [json!({}), json!({ "version": "1.0.0" }), json!({ "status": "deleted" }), json!({ "owner": "x" })]
    {
        acme.patch(WEATHER, body).await.problem(Code::ValidationFailed);
    }
    acme.patch(WEATHER, json!({ "version": "7.0.0", "status": "active" })).await.problem(Code::NotFound);
    // A restart leaves what the operator said.
    let mut app = app;
    app.terminate(std::time::Duration::from_secs(20)).await;
    app.boot(None).await;
    let entry = app.as_operator().get(TIME).await.json_of(200);
    assert_eq!(
        (&entry["featured"], &entry["verified"], &entry["source"]),
        (&json!(true), &json!(true), &json!("curated"))
    );
}

async fn wrong_publications(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let acme = app.as_tenant_admin("acme").await;
    let with = |pointer: &str, value: Value| {
        let mut body = publication("com.example/weather", "1.0.0");
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let package = "/server/packages/0";
    for (body, part) in [
        (json!({}), "server is missing"),
        (with("/server", json!([])), "server is an object"),
        (with("/server/name", json!("weather")), "server.name is 3 to 200"),
        (with("/server/version", json!("1")), "server.version is a semantic version"),
        (with("/server/version", json!(1)), "server is a server.json, but"),
        (with("/server/description", json!("x".repeat(101))), "server.description is a line of 1 to 100"),
        (with("/server/packages", json!([])), "server.packages or `remotes`"),
        (
            with(&format!("{package}/version"), json!("latest")),
            "server.packages.0.version is one exact version",
        ),
        (
            with(&format!("{package}/identifier"), json!("--call=sh")),
            "server.packages.0.identifier is the name",
        ),
        (with("/server/_meta", json!("x".repeat(70_000))), "at most 65536 bytes"),
        (with("/category", json!("")), "category is a text of 1 to 64"),
        (with("/tags", json!(["a\nb"])), "tags has at 0 what is one line"),
    ] {
        let answer = acme.post(REGISTRY, body).await;
        let problem = answer.problem(Code::ValidationFailed);
        answer.must(problem["detail"].as_str().unwrap().contains(part), part);
    }
    let mut body = publication("com.example/weather", "1.0.0");
    body["server"]["packages"][0]["environmentVariables"] =
        json!([{ "name": "NODE_OPTIONS", "value": "-r /x" }]);
    let problem = acme.post(REGISTRY, body).await.problem(Code::ValidationFailed);
    assert!(problem["detail"].as_str().unwrap().contains("NODE_OPTIONS"), "{problem}");
    let mut body = publication("com.example/weather", "1.0.0");
    body["owner"] = "other".into();
    acme.post(REGISTRY, body).await.problem(Code::ValidationFailed);
    acme.get(WEATHER).await.problem(Code::NotFound);
    acme.get(&format!("{REGISTRY}?featured=perhaps")).await.problem(Code::ValidationFailed);
    acme.get("/v0.1/servers?cursor=nonsense").await.problem(Code::ValidationFailed);
}

/// Ten thousand entries of one version each, written as rows: to publish them takes longer than the searches.
const TEN_THOUSAND: [&str; 2] = [
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
     INSERT INTO mcp_registry_entries (name, source, category, tags, latest, stdio, remote, search, featured, verified,
         ratings, stars, installs, created_at, updated_at)
     SELECT 'com.example/entry-' || i, 'imported', 'imported', '', '1.0.0', true, false,
         'com.example/entry-' || i || ' weather forecasts of the usual length for an entry', false, false, 0, 0, 0, 1, 1
     FROM n",
    "INSERT INTO mcp_registry_versions (name, version, description, stdio, remote, document, status, is_latest,
         published_at, updated_at)
     SELECT name, '1.0.0', 'Forecasts', true, false,
         '{\"name\":\"' || name || '\",\"description\":\"Forecasts\",\"version\":\"1.0.0\"}', 'active', true, 1, 1
     FROM mcp_registry_entries WHERE source = 'imported'",
];

async fn ten_thousand_entries_are_searched(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let file = || format!("sqlite://{}?mode=rw", app.data_dir().join("trunkline.db").display());
    let database = Database::connect(app.storage.database_url.clone().unwrap_or_else(file)).await.unwrap();
    for statement in TEN_THOUSAND {
        database.execute_unprepared(statement).await.unwrap();
    }
    for (query, total) in [
        ("search=ENTRY-9123", 1),
        ("category=imported&transport=stdio", 10_000),
        ("search=forecasts&page=100&pageSize=100", 10_000),
        ("tag=reference&search=time", 1),
    ] {
        let begun = std::time::Instant::now();
        let answer = operator.get(&format!("{REGISTRY}?{query}")).await;
        let took = begun.elapsed();
        assert_eq!(answer.json_of(200)["total"], total, "{query}");
        assert!(took < std::time::Duration::from_secs(1), "{query} takes {took:?}");
    }
    let begun = std::time::Instant::now();
    let cursor = "com.example%2Fentry-9950:1.0.0";
    let page =
        operator.get(&format!("/v0.1/servers?limit=100&version=latest&cursor={cursor}")).await.json_of(200);
    assert_eq!(
        (&page["metadata"]["nextCursor"], page["servers"].as_array().unwrap().len() > 40),
        (&Value::Null, true)
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
}
