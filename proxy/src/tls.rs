//! TLS cryptography provider of this process: ring, which the database driver links anyway and which builds
//! without CMake or a C++ compiler.

/// Installs the provider; must precede any TLS client. Later calls change nothing.
pub fn prepare() {
    // An error means that a provider was installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
}
