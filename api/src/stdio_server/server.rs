//! Parts of the stdio server that its tasks share.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stdio_server::gateway_client::GatewayClient;
use crate::stdio_server::in_flight::InFlight;
use crate::stdio_server::output::Output;
use crate::stdio_server::param_headers::ParamHeaders;
use crate::stdio_server::session::Session;

pub struct StdioServer {
    pub client: GatewayClient,
    pub out: Output,
    pub in_flight: InFlight,
    pub param_headers: ParamHeaders,
    pub session: Session,
    /// Tasks that the end waits for.
    pub requests: TaskTracker,
    /// Cancelled at the end of input, which ends subscriptions, or with `ending`.
    pub input_ended: CancellationToken,
    /// Cancelled when the end waits for no task any more.
    pub ending: CancellationToken,
}
