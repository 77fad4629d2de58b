//! The program `trunkline`.

fn main() -> std::process::ExitCode {
    api::main()
}
