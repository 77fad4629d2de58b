//! `/v1/mcp/configs/effective`: the settings in force for a caller at one server, and the row that decided each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use protocol::{AgentId, ArgumentRule, ConfigId, Refusal, Scope, ServerId};
use proxy::effective::{Effective, Source};
use proxy::policy::{ConfigSpec, Patterns, Policy};
use proxy::route::find_server;
use proxy::server::{ChildLimits, LaunchValues};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::problem::Problem;
use crate::rest::acting::Acting;
use crate::rest::describe::{AgentIdText, Always, ConfigIdText, Filtered, Moment, Named, ServerIdText};
use crate::rest::find;
use crate::rest::input::Parameters;
use crate::rest::input::parameters::any;

/// The settings in force.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EffectiveConfig)]
pub struct EffectiveBody {
    #[schema(value_type = ServerIdText)]
    server_id: ServerId,
    #[schema(example = "calculator")]
    slug: String,
    /// Null for an agent without a config of its own, and for callers without an agent.
    #[schema(value_type = Option<AgentIdText>)]
    agent_id: Option<AgentId>,
    /// Each setting by its name; the most specific row decides.
    #[schema(value_type = BTreeMap<String, Decided>)]
    fields: BTreeMap<&'static str, Decided>,
    /// Patterns of blocked tools: each holds, from whatever row.
    blocks: Vec<Standing>,
    /// Rules of arguments by their places (`rules[0]`): each holds, from whatever row.
    rules: Vec<Standing>,
    /// Limits: each holds, from whatever row.
    limits: Vec<Standing>,
    /// Additions of configs to the server's launch: names of `env` and `headers`, whose values are never shown, and
    /// `resources`. Of two with one name the agent's counts.
    launch: Vec<Standing>,
}

/// A value and what decided it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// Null where nothing is set.
    value: Value,
    /// `default`, `server`, `tenant` or `agent`: a default of the gateway, the server's row, or a config.
    #[schema(example = "tenant")]
    source: &'static str,
    /// The config, where it is one.
    #[schema(value_type = Option<ConfigIdText>)]
    config_id: Option<ConfigId>,
    /// The last change of that config.
    #[schema(value_type = Option<Moment>)]
    since: Option<jiff::Timestamp>,
}

/// A value that holds beside others of its name.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DecidedAmongOthers)]
pub struct Standing {
    #[schema(example = "blockedTools")]
    field: Cow<'static, str>,
    #[serde(flatten)]
    decided: Decided,
}

impl Decided {
    fn of(value: Value, source: Source) -> Self {
        let (source, config_id, since) = match source {
            Source::Default => ("default", None, None),
            Source::Server => ("server", None, None),
            Source::Config { id, for_agent, updated_at } => {
                (if for_agent { "agent" } else { "tenant" }, Some(id), Some(updated_at))
            }
        };
        Self { value, source, config_id, since }
    }

    fn set<T>(set: Option<Effective<T>>, shown: impl Fn(T) -> Value) -> Self {
        match set {
            Some(Effective { value, source }) => Self::of(shown(value), source),
            None => Self::of(Value::Null, Source::Default),
        }
    }
}

/// Shows the settings in force for an agent at a server, and which row decided each.
///
/// Without `agent` they are those of callers without a config of their own. Needs `servers:read`.
#[utoipa::path(
    get, path = "/v1/mcp/configs/effective", tag = "configs",
    params(
        ("server" = String, Query, description = "The server's id or slug.", example = "calculator"),
        ("agent" = Option<String>, Query, description = "The agent's id or slug."),
    ),
    responses((status = 200, description = "The settings.", body = EffectiveBody), Always, Named, Filtered)
)]
pub async fn effective_config(
    acting: Acting,
    State(app): State<Arc<App>>,
    query: Parameters,
) -> Result<Json<EffectiveBody>, Problem> {
    acting.require(Scope::ServersRead)?;
    let mut query = query.read()?;
    let (server, agent) = (query.required("server", any), query.optional("agent", any));
    query.finish()?;
    let agent = find::agent_if_named(acting.rows(&app), agent.as_deref()).await?.map(|agent| agent.id);
    let view = app.gateway.upstreams.directory.view(acting.tenant()).await?;
    let server = server.expect("a missing one was refused");
    let member = find_server(&view, &server)
        .map_err(|refusal| Refusal { code: protocol::Code::NotFound, ..refusal })?;
    Ok(Json(EffectiveBody::of(&member.policy(agent), agent)))
}

impl EffectiveBody {
    fn of(policy: &Policy, agent: Option<AgentId>) -> Self {
        let settings = policy.settings();
        let millis = |time: std::time::Duration| json!(time.as_millis() as u64);
        let texts = |patterns: &Patterns| json!(patterns.texts().collect::<Vec<_>>());
        let fields = BTreeMap::from([
            ("enabled", Decided::set(Some(settings.enabled), Value::from)),
            ("allowedTools", Decided::set(settings.allowed_tools, texts)),
            ("allowedResources", Decided::set(settings.allowed_resources, texts)),
            ("allowedPrompts", Decided::set(settings.allowed_prompts, texts)),
            ("timeoutMs", Decided::set(Some(settings.timeout), millis)),
            ("retries", Decided::set(Some(settings.retries), Value::from)),
            ("maxResultBytes", Decided::set(settings.max_result_bytes, Value::from)),
            (
                "rename",
                Decided::set(settings.renames, |names| json!(names.texts().collect::<BTreeMap<_, _>>())),
            ),
            ("describe", Decided::set(settings.descriptions, |texts| json!(texts))),
        ]);
        let blocks = settings.blocked_tools.iter().flatten().flat_map(|Effective { value, source }| {
            value.texts().map(|pattern| Standing {
                field: "blockedTools".into(),
                decided: Decided::of(json!(pattern), *source),
            })
        });
        Self {
            server_id: policy.spec.id,
            slug: policy.spec.slug.to_string(),
            agent_id: agent,
            fields,
            blocks: blocks.collect(),
            rules: policy.configs().flat_map(|row| rules(row, row.rules.all())).collect(),
            limits: limits(policy),
            launch: policy.configs().flat_map(launch).collect(),
        }
    }
}

/// Returns what a config adds to the server's launch.
fn launch(row: &ConfigSpec) -> impl Iterator<Item = Standing> {
    let LaunchValues { env, headers, limits, withheld: _ } = &row.values;
    let ChildLimits { memory_mb, open_files, cpu_seconds } = limits;
    let names = [("env", env), ("headers", headers)]
        .into_iter()
        .flat_map(|(field, values)| values.keys().map(move |name| (field, json!(name))));
    let limits = [("memoryMb", memory_mb), ("openFiles", open_files), ("cpuSeconds", cpu_seconds)]
        .into_iter()
        .filter_map(|(name, limit)| Some(("resources", json!({ name: (*limit)? }))));
    names
        .chain(limits)
        .map(|(field, value)| Standing { field: field.into(), decided: Decided::of(value, row.source()) })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Returns the rules that judge arguments of a tool, by the server's own name of it.
pub fn rules_of_tool(policy: &Policy, tool: &str) -> Vec<Standing> {
    policy.configs().flat_map(|row| rules(row, row.rules.of_tool(tool))).collect()
}

fn rules<'r>(
    row: &ConfigSpec,
    rules: impl Iterator<Item = (usize, &'r ArgumentRule)>,
) -> impl Iterator<Item = Standing> {
    rules.map(|(index, rule)| Standing {
        field: format!("rules[{index}]").into(),
        decided: Decided::of(json!(rule), row.source()),
    })
}

/// Returns the limits that hold together for a call.
pub fn limits(policy: &Policy) -> Vec<Standing> {
    let of_server = (policy.spec.max_concurrency.value > 0).then(|| Standing {
        field: "maxConcurrency".into(),
        decided: Decided::of(json!(policy.spec.max_concurrency.value), policy.spec.max_concurrency.source),
    });
    let of_rows = policy.configs().flat_map(|row| {
        [("maxConcurrency", row.max_concurrency), ("callsPerMinute", row.calls_per_minute)]
            .into_iter()
            .filter_map(|(field, value)| Some((field, value?)))
            .map(|(field, value)| Standing {
                field: field.into(),
                decided: Decided::of(json!(value), row.source()),
            })
    });
    of_server.into_iter().chain(of_rows).collect()
}
