//! The raw server on standard input and output.

fn main() {
    tests::raw_server::serve_stdio();
}
