//! Sealing every secret column again.
