//! Change notifications: which streams are subscribed, here and on other replicas.

pub mod delivery;
pub mod dispatcher;
pub mod filter;
pub mod handlers;
pub mod replica_bus;
pub mod replica_interest;
