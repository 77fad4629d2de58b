//! The built-in servers, with the settings of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use entity::{NewServer, ServerSettings, Transport};
use protocol::provider::ToolProvider;
use protocol::{Code, Refusal, Slug};
use servers::collab::Collab;
use servers::shipped::{SHIPPED, Shipped};

use crate::config::{Builtin, Config};

/// Command line of a server.
#[derive(Default)]
struct Launch {
    arguments: Vec<String>,
    variables: BTreeMap<&'static str, String>,
}

/// Opens the servers that run in this process. One that needs a setting first has no tools.
///
/// # Errors
/// The setting that is wrong, as a sentence.
pub fn builtins(config: &Config, collab: &Collab) -> Result<Vec<Arc<dyn ToolProvider>>, String> {
    let mut servers: Vec<Arc<dyn ToolProvider>> = vec![Arc::new(collab.clone())];
    for shipped in &SHIPPED {
        servers.push(open(shipped, &config.builtin)?);
    }
    Ok(servers)
}

fn open(shipped: &Shipped, given: &Builtin) -> Result<Arc<dyn ToolProvider>, String> {
    let launch = match launch(shipped.info.name, given) {
        Ok(launch) => launch,
        Err(missing) => return Ok(shipped.unconfigured(missing)),
    };
    let variable = |name: &str| launch.variables.get(name).cloned();
    shipped
        .open(&launch.arguments, &variable)
        .map_err(|mistake| format!("the built-in server `{}`: {mistake}", shipped.info.name))
}

/// Returns the command line of a server.
///
/// # Errors
/// The setting that is missing.
fn launch(name: &str, given: &Builtin) -> Result<Launch, Refusal> {
    let mut launch = Launch::default();
    match name {
        "filesystem" => {
            launch.arguments.clone_from(&given.filesystem_roots);
            if launch.arguments.is_empty() {
                return Err(missing("no directory is given", "builtin.filesystem_roots (FILESYSTEM_ROOTS)"));
            }
            if !given.filesystem_writable {
                launch.arguments.push("--read-only".to_owned());
            }
        }
        "database" => {
            if given.database_url.is_empty() {
                return Err(missing("no database is given", "builtin.database_url (DATABASE_SERVER_URL)"));
            }
            launch.variables.insert(servers::database::ADDRESS, given.database_url.clone());
            if !given.database_schemas.is_empty() {
                launch.arguments.push(format!("--schemas={}", given.database_schemas.join(",")));
            }
        }
        "web" => {
            if !given.searxng_url.is_empty() {
                launch.arguments.push(format!("--searxng={}", given.searxng_url));
            }
            launch
                .arguments
                .extend(given.web_allow.iter().map(|network| format!("--allow-private={network}")));
            let keys = [
                (servers::web::BRAVE_KEY, &given.brave_api_key),
                (servers::web::TAVILY_KEY, &given.tavily_api_key),
            ];
            let keys = keys.into_iter().filter(|(_, key)| !key.is_empty());
            launch.variables.extend(keys.map(|(name, key)| (name, key.clone())));
        }
        _ => {}
    }
    Ok(launch)
}

fn missing(reason: &'static str, setting: &str) -> Refusal {
    Refusal::new(Code::NotConfigured, reason).hint(format!("the operator can set {setting}"))
}

/// Returns the row of a built-in server, which the first start makes.
pub fn row(provider: &dyn ToolProvider) -> NewServer {
    let info = provider.info();
    let slug: Slug = info.name.parse().expect("built-in names are slugs");
    let settings = ServerSettings {
        name: info.title.to_owned(),
        description: Some(info.description.to_owned()),
        category: Some("built-in".to_owned()),
        version: Some(info.version.to_owned()),
        command: Some(info.name.to_owned()),
        ..ServerSettings::default()
    };
    NewServer { slug, transport: Transport::Builtin, settings }
}
