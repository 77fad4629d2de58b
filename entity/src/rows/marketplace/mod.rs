//! Tables of the marketplace.

pub(crate) mod entries;
pub(crate) mod installs;
pub(crate) mod ratings;
pub(crate) mod versions;
