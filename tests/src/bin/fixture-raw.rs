//! The raw server on standard input and output.

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tests::raw_server::serve_stdio(&arguments);
}
