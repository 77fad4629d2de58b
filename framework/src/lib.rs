//! Framework of MCP servers: typed tools with derived JSON Schemas, arguments that are validated before the
//! call, and one provider that is served in a gateway or on standard streams, to clients of both eras.
//!
//! ```
//! use framework::{Effect, Output, RequestContext, Tools};
//!
//! /// Arguments of `greet`.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Greet {
//!     /// Person to greet.
//!     #[schemars(length(min = 1, max = 100))]
//!     name: String,
//! }
//!
//! #[derive(serde::Serialize, schemars::JsonSchema)]
//! struct Greeting {
//!     text: String,
//! }
//!
//! struct Greeter;
//!
//! impl Greeter {
//!     async fn greet(&self, _context: &RequestContext<'_>, Greet { name }: Greet) -> Output<Greeting> {
//!         Ok(Greeting { text: format!("Hello {name}") }.into())
//!     }
//! }
//!
//! let tools = Tools::<Greeter>::new().add("greet", "Greet", "Greets a person.", Effect::Read, |server, context, arguments| {
//!     Box::pin(server.greet(context, arguments))
//! });
//! assert_eq!(tools.definitions()[0].input_schema["required"][0], "name");
//! ```

pub mod answers;
pub mod arguments;
pub mod stdio;
pub mod testing;
pub mod tools;

pub use async_trait::async_trait;
pub use protocol::provider::{
    Annotations, Progress, ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput,
    ToolProvider,
};
pub use protocol::{Code, Refusal};
pub use schemars;

pub use self::stdio::serve_stdio;
pub use self::tools::{Answer, Effect, Output, Tools};
