//! Settings of a tenant's record: what is redacted of later calls, for that tenant alone.

use tests::{Backend, Case, Code, Registration, Settings, TestApp, Value, cases, json};

pub const CASES: &[Case] = cases![
    Every: rules_hold_for_one_tenant_and_after_a_restart;
    Once: a_rule_that_cannot_be_one_is_refused, errors_and_uris_are_searched;
];

const PATH: &str = "/v1/mcp/executions/settings";

async fn rules_hold_for_one_tenant_and_after_a_restart(backend: Backend) {
    let mut app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    let other = app.as_tenant_admin("other").await;
    let fresh = operator.get(PATH).await.json_of(200);
    let defaults =
        json!({ "retentionDays": null, "redactKeys": [], "redactPatterns": [], "updatedAt": null });
    assert_eq!(fresh, defaults);
    let rules = json!({ "retentionDays": 30, "redactKeys": ["Birth day"], "redactPatterns": ["[0-9]{16}"] });
    let changed = operator.patch(PATH, rules.clone()).await.json_of(200);
    for (name, value) in rules.as_object().unwrap() {
        assert_eq!(&changed[name], value, "{changed:#}");
    }
    let arguments = json!({ "a": 1, "b": 2, "birth_day": "1970-01-01", "note": "card 4111111111111111" });
    let kept = async |actor: &tests::Actor| {
        actor.call("calculator__add", arguments.clone()).await.status(200);
        let row = actor.executions("tool=add").await.remove(0);
        serde_json::from_str::<Value>(row["argumentsRedacted"].as_str().unwrap()).unwrap()
    };
    let redacted = json!({ "a": 1, "b": 2, "birth_day": "[redacted]", "note": "card [redacted]" });
    assert_eq!(kept(&operator).await, redacted);
    assert_eq!(kept(&other).await, arguments, "another tenant has no rules");
    app.kill().await;
    app.boot(None).await;
    assert_eq!(kept(&app.as_operator()).await, redacted);
    let cleared =
        app.as_operator().patch(PATH, json!({ "redactKeys": null, "redactPatterns": [] })).await.json_of(200);
    assert_eq!((&cleared["redactKeys"], &cleared["retentionDays"]), (&json!([]), &json!(30)), "{cleared:#}");
    assert_eq!(kept(&app.as_operator()).await, arguments);
}

async fn a_rule_that_cannot_be_one_is_refused(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    for (member, value, named) in [
        ("retentionDays", json!(0), "from 1 to 3650"),
        ("redactKeys", json!(["--"]), "`--`"),
        ("redactPatterns", json!(["(a"]), "`(a`"),
        ("redactPatterns", json!(["a*"]), "`a*`"),
        ("redactPatterns", json!(["(?=a)b"]), "`(?=a)b`"),
    ] {
        let problem = operator.patch(PATH, json!({ member: value })).await.problem(Code::ValidationFailed);
        assert!(problem["errors"].to_string().contains(named), "{named} in {problem:#}");
    }
    assert_eq!(operator.get(PATH).await.json_of(200)["updatedAt"], Value::Null);
}

async fn errors_and_uris_are_searched(backend: Backend) {
    let app = TestApp::start(backend, Settings::new()).await;
    let operator = app.as_operator();
    operator.register(Registration::rmcp("fix")).await;
    operator.patch(PATH, json!({ "redactPatterns": ["ann@[a-z.]+"] })).await.status(200);
    let read = json!({ "uri": "fix+fixture://number/ann@example.org" });
    operator.rpc("resources/read", read).await.status(200);
    let row = operator.executions("kind=resources/read").await.remove(0);
    assert!(!row.to_string().contains("ann@"), "{row:#}");
    assert!(row["tool"].as_str().unwrap().contains("[redacted]"), "{row:#}");
}
