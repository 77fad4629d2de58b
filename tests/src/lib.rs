//! The harness of the black-box trials: a running gateway, who acts on it, the servers it needs, and
//! the programs it is given to run. Knows the contract; does not know one line of the gateway's code.

pub mod actor;
pub mod answer;
pub mod app;
pub mod backend;
pub mod cut;
pub mod exchange;
pub mod guardian;
pub mod jwt;
pub mod mcp_client;
pub mod plain_http;
pub mod postgres;
pub mod proc;
pub mod process;
pub mod programs;
pub mod raw_server;
pub mod redis_server;
pub mod registration;
pub mod scratch;
pub mod settings;
pub mod storage;
pub mod suite;
pub mod tls;

pub use actor::Actor;
pub use answer::Answer;
pub use app::TestApp;
pub use backend::Backend;
pub use exchange::{Exchange, Silence};
pub use mcp_client::McpClient;
pub use plain_http::{PlainAnswer, PlainHttp, Sending};
pub use protocol::Code;
pub use registration::{Registered, Registration};
pub use settings::Settings;
pub use suite::{Case, On, not_run};

pub use serde_json::{Value, json};
