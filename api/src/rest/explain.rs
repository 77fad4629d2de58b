//! `/v1/mcp/explain`: whether an agent can see and call a tool, resource or prompt, each check of it in the order of
//! the pipeline, and the row or rule behind a check that fails.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use entity::Agent;
use protocol::{Code, Refusal, Scope};
use proxy::bridge::Client;
use proxy::catalog::ListKind;
use proxy::policy::Policy;
use proxy::pool::State as Health;
use proxy::renames::Meant;
use proxy::route::{Name, Verb, find_member, meant, taken};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::{FieldError, Problem};
use crate::rest::acting::Acting;
use crate::rest::describe::{Always, Filtered, Moment, Named};
use crate::rest::effective::{Standing, limits, rules_of_tool};
use crate::rest::find;
use crate::rest::input::Parameters;
use crate::rest::input::parameters::any;

/// Why an agent can or cannot use something.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Explanation)]
pub struct ExplanationBody {
    /// The agent's slug; null for callers without an agent.
    #[schema(example = "coder")]
    agent: Option<String>,
    #[schema(pattern = "^(tool|resource|prompt)$")]
    kind: &'static str,
    #[schema(example = "calculator__power")]
    name: String,
    /// The server's slug, where the name leads to one.
    #[schema(example = "calculator")]
    server: Option<String>,
    /// Presence in the agent's lists.
    visible: bool,
    /// Passing on of a call to the server, as far as limits allow it.
    callable: bool,
    /// Each check, in the order in which a call meets them. The first that fails is the answer to a call.
    checks: Vec<Check>,
    /// The rules that judge the arguments of a call, which are not known here.
    rules: Vec<Standing>,
    /// The limits that a call counts under.
    limits: Vec<Standing>,
}

/// A check of a call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    #[schema(pattern = "^(scope|server|enabled|listed|policy|state)$")]
    check: &'static str,
    passed: bool,
    /// The code that a call is refused with.
    #[schema(example = "denied_by_policy")]
    code: Option<&'static str>,
    reason: Option<String>,
    /// The row or rule that decided.
    rule: Option<String>,
    #[schema(value_type = Option<Moment>)]
    since: Option<jiff::Timestamp>,
    /// The next step.
    hint: Option<String>,
}

impl Check {
    fn of(check: &'static str, outcome: Result<Option<String>, Refusal>) -> Self {
        match outcome {
            Ok(reason) => {
                Self { check, passed: true, code: None, reason, rule: None, since: None, hint: None }
            }
            Err(refusal) => Self {
                check,
                passed: false,
                code: Some(refusal.code.as_str()),
                hint: Some(refusal.remedy().to_owned()),
                reason: Some(refusal.reason.into_owned()),
                rule: refusal.rule,
                since: refusal.since,
            },
        }
    }
}

/// Explains whether an agent can see and call a tool, a resource or a prompt, and why not.
///
/// Give one of `tool`, `resource` and `prompt`, as in the lists of `/mcp` (`calculator__add`), or with `server`
/// as the server names it. Without `agent` it is the caller. Nothing is called and no server is started. Needs
/// `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/explain", tag = "configs",
    params(
        ("agent" = Option<String>, Query, description = "The agent's id or slug."),
        ("server" = Option<String>, Query, description = "The server's id or slug, for a name of its own."),
        ("tool" = Option<String>, Query, description = "The tool.", example = "calculator__add"),
        ("resource" = Option<String>, Query, description = "The resource's URI."),
        ("prompt" = Option<String>, Query, description = "The prompt."),
    ),
    responses((status = 200, description = "The checks.", body = ExplanationBody), Always, Named, Filtered)
)]
pub async fn explain(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<ExplanationBody>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let (agent, server) = (query.optional("agent", any), query.optional("server", any));
    let named = [("tool", Verb::CallTool), ("resource", Verb::ReadResource), ("prompt", Verb::GetPrompt)]
        .map(|(kind, verb)| query.optional(kind, any).map(|name| (kind, verb, name)));
    query.finish()?;
    let mut named = named.into_iter().flatten();
    let (Some((kind, verb, name)), None) = (named.next(), named.next()) else {
        let detail = "is wanted, or `resource` or `prompt`, and one of them only";
        return Err(Problem::invalid(vec![FieldError::new("tool", detail)]));
    };
    let agent = find::agent_if_named(acting.rows(&app), agent.as_deref()).await?;
    let id = agent.as_ref().map_or(acting.caller.agent, |agent| Some(agent.id));
    let mut checks = vec![scope(&acting, &app, agent.as_ref()).await?];
    let view = app.gateway.upstreams.directory.view(acting.tenant()).await?;
    let form = match &server {
        Some(server) => Name::Own { server, name: &name },
        None => Name::Exposed(&name),
    };
    let found = find_member(&view, verb, form);
    let (member, own) = match found {
        Ok(found) => found,
        Err(refusal) => {
            checks.push(Check::of("server", Err(refusal)));
            return Ok(Json(ExplanationBody::of(agent, &acting, (kind, name.clone()), None, checks)));
        }
    };
    checks.push(Check::of(
        "server",
        Ok(member.hides.map(|hidden| format!("it hides the global server {hidden}"))),
    ));
    let policy = member.policy(id);
    checks.push(Check::of("enabled", policy.server().map(|()| None)));
    let list = match verb {
        Verb::CallTool => ListKind::Tools,
        Verb::ReadResource => ListKind::Resources,
        _ => ListKind::Prompts,
    };
    let (own, listed) = match meant(&policy, verb, form, &own) {
        Meant::Taken(new) => (own.to_string(), Err(taken(&policy, &own, new))),
        Meant::Renamed(own) => look_up(&app, &acting, &policy, list, own, false),
        Meant::Own => look_up(&app, &acting, &policy, list, &own, server.is_none()),
    };
    checks.push(Check::of("listed", listed));
    checks.push(Check::of("policy", policy.item(list, &own).map(|()| None)));
    checks.push(Check::of("state", state(&app, &acting, &policy)));
    let mut explanation = ExplanationBody::of(agent, &acting, (kind, name.clone()), Some(&policy), checks);
    if verb == Verb::CallTool {
        explanation.rules = rules_of_tool(&policy, &own);
    }
    Ok(Json(explanation))
}

impl ExplanationBody {
    fn of(
        agent: Option<Agent>,
        acting: &Acting,
        (kind, name): (&'static str, String),
        policy: Option<&Policy>,
        checks: Vec<Check>,
    ) -> Self {
        let passed = |hindering: &[&str]| {
            policy.is_some() && checks.iter().all(|check| check.passed || !hindering.contains(&check.check))
        };
        Self {
            agent: agent.map(|agent| agent.slug).or_else(|| acting.caller.agent_slug.clone()),
            kind,
            name,
            server: policy.map(|policy| policy.spec.slug.to_string()),
            visible: passed(&["enabled", "listed", "policy"]),
            callable: passed(&["scope", "server", "enabled", "listed", "policy", "state"]),
            checks,
            rules: Vec::new(),
            limits: policy.map(limits).unwrap_or_default(),
        }
    }
}

/// Checks that some credential of the agent may call tools. Tokens are not known to the gateway before they come.
async fn scope(acting: &Acting, app: &App, agent: Option<&Agent>) -> Result<Check, Problem> {
    let Some(agent) = agent.filter(|agent| acting.caller.agent != Some(agent.id)) else {
        return Ok(Check::of("scope", acting.caller.require(Scope::ToolsCall).map(|()| None)));
    };
    let keys = acting.rows(app).agent_scopes(agent.id).await.map_err(Problem::of("agent"))?;
    let found = if keys.is_empty() {
        Ok(Some("the agent has no key of its own: a token, or a key for all agents, decides".to_owned()))
    } else if keys.iter().any(|scopes| scopes.contains(Scope::ToolsCall)) {
        Ok(None)
    } else {
        let reason = format!("no key of the agent `{}` has the scope {}", agent.slug, Scope::ToolsCall);
        Err(Refusal::new(Code::MissingScope, reason).rule(format!("scope {}", Scope::ToolsCall)))
    };
    Ok(Check::of("scope", found))
}

/// Looks the name up in the server's last list, without a request; returns the server's own name.
fn look_up(
    app: &App,
    acting: &Acting,
    policy: &Policy,
    list: ListKind,
    name: &str,
    exposed: bool,
) -> (String, Result<Option<String>, Refusal>) {
    let upstreams = &app.gateway.upstreams;
    let key = upstreams.bridge.list_key(acting.tenant(), &policy.spec, &Client::plain());
    let Some(listing) = upstreams.catalog.known_or_last(&key, list) else {
        let reason = "the server has not listed yet; its list is requested at the first call".to_owned();
        return (name.to_owned(), Ok(Some(reason)));
    };
    let item = if exposed { listing.find_exposed(name) } else { listing.find(name) };
    if let Some(item) = item {
        return (item.name.to_string(), Ok(None));
    }
    let slug = &policy.spec.slug;
    if let Some(left_out) = listing.left_out.iter().find(|left_out| left_out.name.as_deref() == Some(name)) {
        let reason = format!("its definition by `{slug}` is left out of lists: {}", left_out.reason);
        return (name.to_owned(), Err(Refusal::new(Code::UnreadableAnswer, reason).since(listing.listed_at)));
    }
    if list == ListKind::Resources {
        // A template may make it.
        return (name.to_owned(), Ok(Some(format!("`{slug}` does not list it; a template may have it"))));
    }
    let code = if list == ListKind::Tools { Code::UnknownTool } else { Code::UnknownItem };
    let reason = format!("`{slug}` does not list `{name}`");
    (name.to_owned(), Err(Refusal::new(code, reason).since(listing.listed_at)))
}

/// Checks that the server can be used now, or started.
fn state(app: &App, acting: &Acting, policy: &Policy) -> Result<Option<String>, Refusal> {
    let status = app.gateway.upstreams.pool.status(acting.tenant(), policy.spec.id, policy.spec.provider());
    let code = match status.state {
        Health::Healthy | Health::Degraded | Health::Unknown => return Ok(status.reason),
        Health::Unhealthy => Code::UpstreamUnavailable,
        Health::Stopped => Code::ServerStopped,
        Health::NotConfigured => Code::NotConfigured,
    };
    let reason =
        status.reason.unwrap_or_else(|| format!("`{}` is {}", policy.spec.slug, status.state.as_str()));
    Err(Refusal::new(code, reason).since(status.since))
}
