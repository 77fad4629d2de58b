//! Messages of both directions on one line, whatever that is: requests go out, answers find who waits for
//! them, and what the server says besides is taken where it belongs. The transports bring and fetch text.

mod listening;
mod upstream;
mod wire;

pub use upstream::{DuplexUpstream, shake};
pub use wire::{Outgoing, Wire};
