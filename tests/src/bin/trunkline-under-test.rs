//! The gateway itself, built into a program of this crate so that the trials find it.

fn main() -> std::process::ExitCode {
    api::main()
}
