//! Commands that speak REST with a gateway: `trunkline seed` and `trunkline registry import`.

pub mod gateway;
pub mod import;
pub mod seed;
