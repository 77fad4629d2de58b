//! The tables, as sea-orm entities.
