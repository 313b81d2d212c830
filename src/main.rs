//! The fastnode binary.

fn main() -> std::process::ExitCode {
    fastnode::cli::main()
}
