//! Commands beside the gateway: those that speak REST with one (`trunkline seed`, `trunkline registry import`, `trunkline call`),
//! and those for servers on their own (`trunkline server`, `trunkline new-server`).

pub mod call;
pub mod gateway;
pub mod import;
pub mod new_server;
pub mod seed;
pub mod server;
