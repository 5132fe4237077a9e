//! The command line.

mod control;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// ConnectX cards in user space, which the stock Linux drivers cannot tell from real ones.
#[derive(Parser)]
#[command(name = "connectx", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HCAs on one fabric, each on its own socket
    Serve(serve::Arguments),
    /// Ask a server for its status, or make something fail
    Control(control::Arguments),
}

/// Runs the subcommand that the process was given, and returns its exit code.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Control(arguments) => control::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("connectx: {error}");
        ExitCode::FAILURE
    })
}
