//! Operations: metrics, logs and health.

pub mod endpoints;
pub mod health;
pub mod health_check;
pub mod logs;
pub mod metrics;
