//! Unit tests of which row decides a setting.

use jiff::Timestamp;
use protocol::{AgentId, ArgumentRule, ServerId, TenantId};

use super::*;
use crate::server::Launch;
use crate::view::TenantView;

fn server(timeout: Effective<Duration>, enabled: bool) -> ServerSpec {
    ServerSpec {
        id: ServerId::new(),
        owner: None,
        slug: "fix".parse().unwrap(),
        name: String::new(),
        version: None,
        description: None,
        category: None,
        launch: Launch::Unsupported { transport: String::new() },
        variant: 0,
        revision: 1,
        enabled: Effective { value: enabled, source: Source::Server },
        timeout,
        start_timeout: Duration::ZERO.into(),
        idle_timeout: Duration::ZERO.into(),
        max_concurrency: 0.into(),
        retries: 0.into(),
        era: None,
        found: None,
    }
}

fn config(for_agent: bool) -> ConfigSpec {
    ConfigSpec {
        id: ConfigId::new(),
        for_agent,
        enabled: None,
        allowed_tools: None,
        blocked_tools: None,
        allowed_resources: None,
        allowed_prompts: None,
        timeout: None,
        max_concurrency: None,
        calls_per_minute: None,
        max_result_bytes: None,
        retries: None,
        renames: None,
        descriptions: None,
        rules: ArgumentRules::default(),
        values: LaunchValues::default(),
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn policy_of(spec: ServerSpec, tenant: ConfigSpec, agent: ConfigSpec) -> Policy {
    let (id, who) = (spec.id, AgentId::new());
    let configs = vec![(id, None, Arc::new(tenant)), (id, Some(who), Arc::new(agent))];
    let view = TenantView::new(TenantId::new(), vec![Arc::new(spec)], configs);
    view.find("fix").unwrap().policy(Some(who))
}

fn patterns(pattern: &str) -> Option<Patterns> {
    Some(Patterns::parse([pattern]).unwrap())
}

const ONE: Duration = Duration::from_secs(1);
const TWO: Duration = Duration::from_secs(2);

#[test]
fn the_most_specific_row_that_says_something_decides() {
    let (plain, tenant, agent) = (config(false), config(false), config(true));
    let named = |config: &ConfigSpec| Source::Config {
        id: config.id,
        for_agent: config.for_agent,
        updated_at: config.updated_at,
    };
    let (of_tenant, of_agent) = (named(&tenant), named(&agent));
    let inherited = policy_of(server(Effective::of_server(None, ONE), true), plain, config(true));
    assert_eq!(inherited.settings().timeout, ONE.into());
    let own = policy_of(server(Effective::of_server(Some(TWO), ONE), true), config(false), config(true));
    assert_eq!(own.settings().timeout, Effective { value: TWO, source: Source::Server });

    let tenant = ConfigSpec { timeout: Some(ONE), allowed_tools: patterns("a*"), ..tenant };
    let policy =
        policy_of(server(TWO.into(), true), tenant, ConfigSpec { allowed_tools: patterns("b"), ..agent });
    let settings = policy.settings();
    assert_eq!(settings.timeout, Effective { value: ONE, source: of_tenant });
    assert_eq!(settings.allowed_tools.unwrap().source, of_agent, "not both: the agent's alone");
    policy.tool("b").unwrap();
    policy.tool("a").unwrap_err();
}

#[test]
fn a_block_wins_wherever_it_stands() {
    let tenant = ConfigSpec { enabled: Some(false), blocked_tools: patterns("rm*"), ..config(false) };
    let id = tenant.id;
    let agent = ConfigSpec { enabled: Some(true), allowed_tools: patterns("*"), ..config(true) };
    let policy = policy_of(server(ONE.into(), true), tenant, agent);
    assert_eq!(policy.server().unwrap_err().rule, Some(format!("config {id} enabled")));
    assert_eq!(policy.tool("rmdir").unwrap_err().rule, Some(format!("config {id} blockedTools `rm*`")));
    policy.tool("ls").unwrap();

    let off = server(ONE.into(), false);
    let rule = Some(format!("server {} enabled", off.id));
    let agent = ConfigSpec { enabled: Some(true), ..config(true) };
    let refusal = policy_of(off, config(false), agent).server().unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (Code::ServerDisabled, rule), "a config switches nothing on");
}

#[test]
fn resources_and_prompts_are_selected_like_tools() {
    let (mut tenant, mut agent) = (config(false), config(true));
    tenant.allowed_resources = patterns("file:///docs/**");
    tenant.allowed_prompts = patterns("none");
    agent.allowed_prompts = patterns("greet*");
    agent.retries = Some(2);
    let policy = policy_of(server(ONE.into(), true), tenant, agent);
    for (kind, name, shown) in [
        (ListKind::Resources, "file:///docs/a/b", true),
        (ListKind::Resources, "file:///etc/passwd", false),
        (ListKind::Resources, "file:///docs/../etc/passwd", false),
        (ListKind::Resources, "file:///docs/%2E%2e%2fetc/passwd", false),
        (ListKind::Resources, "file:///docs/a..b", true),
        (ListKind::ResourceTemplates, "file:///docs/{name}", true),
        (ListKind::ResourceTemplates, "file:///{name}", false),
        (ListKind::Prompts, "greeting", true),
        (ListKind::Prompts, "none", false),
        (ListKind::Tools, "any", true),
    ] {
        assert_eq!(policy.shows(kind, Some(name)), shown, "{name}");
    }
    let refusal = policy.item(ListKind::Prompts, "none").unwrap_err();
    assert!(refusal.rule.unwrap().ends_with(" allowedPrompts"));
    assert!(!policy.shows(ListKind::Resources, None) && policy.shows(ListKind::Tools, None));
    assert_eq!(policy.settings().retries.value, 2);
}

#[test]
fn a_tool_that_cannot_be_edited_is_left_out_under_its_new_name() {
    let names = BTreeMap::from([("add".to_owned(), "sum".to_owned())]);
    let renames = Some(Renames::new(&"fix".parse().unwrap(), &names));
    let policy = policy_of(server(ONE.into(), true), ConfigSpec { renames, ..config(false) }, config(true));
    let edit = |definition| policy.edited_tool("add", definition, str::to_owned);
    assert_eq!(edit(r#"{"name":"add","x":1e400}"#).unwrap(), r#"{"name":"sum","x":1e400}"#);
    let left_out = edit(r#"{"name":"add","a":1,"a":2}"#).unwrap_err();
    assert_eq!(left_out.name.as_deref(), Some("sum"));
    let other = r#"{"name":"divide","a":1,"a":2}"#;
    assert_eq!(policy.edited_tool("divide", other, str::to_owned).unwrap(), other);
}

#[test]
fn rules_of_all_rows_hold_together() {
    let rules = |pattern: &str| {
        let other = ArgumentRule { tools: "other".to_owned(), ..ArgumentRule::default() };
        let rule = ArgumentRule {
            tools: "write*".to_owned(),
            argument: "/path".to_owned(),
            pattern: Some(pattern.to_owned()),
            ..ArgumentRule::default()
        };
        let other = ArgumentRule { argument: "/a".to_owned(), ..other };
        ArgumentRules::read(&[other, rule]).unwrap()
    };
    let tenant = ConfigSpec { rules: rules("src/.*"), ..config(false) };
    let agent = ConfigSpec { rules: rules(".*[.]rs"), ..config(true) };
    let (of_tenant, of_agent) = (tenant.id, agent.id);
    let policy = policy_of(server(ONE.into(), true), tenant, agent);
    policy.arguments("write_file", br#"{"path":"src/a.rs"}"#).unwrap();
    policy.arguments("read_file", br#"{"path":"x","path":"y"}"#).unwrap();
    for (path, row) in [("a.rs", of_tenant), ("src/a.c", of_agent)] {
        let arguments = format!(r#"{{"path":"{path}"}}"#);
        let refusal = policy.arguments("write_file", arguments.as_bytes()).unwrap_err();
        assert_eq!(refusal.rule, Some(format!("config {row} rules[1]")));
        assert!(refusal.code == Code::DeniedByPolicy && refusal.since.is_some());
        assert!(refusal.reason.contains("`/path`") && refusal.remedy().contains("as a whole"), "{refusal}");
    }
}
