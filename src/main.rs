//! The `bareverbs` command line: one binary, every tool, each also under its old name.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
