//! Remote servers, odd and well-behaved, behind a real pool. The server is one of the test's own, which
//! does what a test says; real ones are in `real`.
#![expect(clippy::disallowed_methods, reason = "tests start processes and tasks themselves")]

mod app;
mod failures;
mod legacy;
mod modern;
mod older;
mod real;
mod server;
mod sessions;
mod websocket;
