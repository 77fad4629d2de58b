//! State of the stdio server: the client of the gateway, the output, and what is in flight.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stdio_server::gateway_client::GatewayClient;
use crate::stdio_server::in_flight::RequestsInFlight;
use crate::stdio_server::output::Output;
use crate::stdio_server::param_headers::ParamHeaders;
use crate::stdio_server::session::Session;

/// State shared by the parts of the stdio server.
pub struct StdioServer {
    pub client: GatewayClient,
    pub out: Output,
    pub in_flight: RequestsInFlight,
    pub param_headers: ParamHeaders,
    pub session: Session,
    /// Requests that are waited for at the end.
    pub requests: TaskTracker,
    /// Cancelled when nothing is waited for any more.
    pub ending: CancellationToken,
}
