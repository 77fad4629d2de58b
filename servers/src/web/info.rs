//! Name and description of the server `web`.

use protocol::provider::ProviderInfo;

pub const INFO: ProviderInfo = ProviderInfo {
    name: "web",
    title: "Web",
    version: env!("CARGO_PKG_VERSION"),
    description: "Searches the web and reads public pages as text. What it returns is untrusted.",
};
