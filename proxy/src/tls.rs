//! Cryptography provider of TLS in this process: ring, which the database driver links
//! anyway and which builds without CMake or a C++ compiler.

/// To be called before a TLS client is made; later calls change nothing.
pub fn prepare() {
    // An error means that it was chosen already.
    drop(rustls::crypto::ring::default_provider().install_default());
}
