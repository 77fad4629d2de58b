pub fn text() -> String { String::new() }
pub fn routes() -> axum::Router<std::sync::Arc<crate::app::App>> { axum::Router::new() }
