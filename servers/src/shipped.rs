//! The servers that run in a gateway and as programs of their own, by name, with the arguments and variables
//! of a command line.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::Refusal;
use protocol::provider::{
    ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput, ToolProvider,
};
use serde_json::value::RawValue;

use crate::{Calculator, Database, Filesystem, Web, calculator, database, filesystem, web};

/// Value of an environment variable.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

type Opened = Result<Arc<dyn ToolProvider>, String>;

type Printed = Result<Option<String>, String>;

/// One server.
pub struct Shipped {
    pub info: ProviderInfo,
    open: fn(&[String], Variable<'_>) -> Opened,
    print: fn(&[String], Variable<'_>) -> Printed,
}

/// The servers in the order in which they are listed.
pub const SHIPPED: [Shipped; 4] = [
    Shipped { info: calculator::INFO, open: calculator, print: nothing },
    Shipped {
        info: filesystem::INFO,
        open: |arguments, variable| Ok(Arc::new(Filesystem::from_arguments(arguments, variable)?)),
        print: nothing,
    },
    Shipped {
        info: database::INFO,
        open: |arguments, variable| Ok(Arc::new(Database::from_arguments(arguments, variable)?)),
        print: database::role_sql,
    },
    Shipped {
        info: web::INFO,
        open: |arguments, variable| Ok(Arc::new(Web::from_arguments(arguments, variable)?)),
        print: nothing,
    },
];

fn nothing(_: &[String], _: Variable<'_>) -> Printed {
    Ok(None)
}

/// Returns the server of a name.
///
/// # Errors
/// A sentence with the names that there are.
pub fn find(name: &str) -> Result<&'static Shipped, String> {
    const SERVERS: &[Shipped] = &SHIPPED;
    SERVERS.iter().find(|shipped| shipped.info.name == name).ok_or_else(|| {
        let names: Vec<_> = SERVERS.iter().map(|shipped| shipped.info.name).collect();
        format!("there is no server `{name}`; there are {}", names.join(", "))
    })
}

impl Shipped {
    /// Opens the server. It connects to nothing yet.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to give.
    pub fn open(&self, arguments: &[String], variable: Variable<'_>) -> Opened {
        (self.open)(arguments, variable)
    }

    /// Returns the text that the arguments ask for instead of a server, such as the SQL of a role.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to give.
    pub fn print(&self, arguments: &[String], variable: Variable<'_>) -> Printed {
        (self.print)(arguments, variable)
    }

    /// Returns a server without tools in its place.
    pub fn unconfigured(&self, missing: Refusal) -> Arc<dyn ToolProvider> {
        Arc::new(Unconfigured { info: self.info, missing })
    }
}

fn calculator(arguments: &[String], _: Variable<'_>) -> Opened {
    match arguments {
        [] => Ok(Arc::new(Calculator)),
        [argument, ..] => Err(format!("`calculator` takes no argument, not even `{argument}`")),
    }
}

/// A server that needs a setting first.
struct Unconfigured {
    info: ProviderInfo,
    missing: Refusal,
}

#[async_trait]
impl ToolProvider for Unconfigured {
    fn info(&self) -> ProviderInfo {
        self.info
    }

    fn not_configured(&self) -> Option<Refusal> {
        Some(self.missing.clone())
    }

    async fn tools(&self, _: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        Err(self.missing.clone().into())
    }

    async fn call(&self, _: &RequestContext<'_>, _: &str, _: &RawValue) -> Result<ToolOutput, ProviderError> {
        Err(self.missing.clone().into())
    }
}
