//! The command line.

mod control;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A ConnectX-3 in user space, which stock Linux mlx4 drivers take for the real one.
#[derive(Parser)]
#[command(name = "connectx3", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HCAs that are joined to one InfiniBand fabric, each on a socket
    Serve(serve::Arguments),
    /// Tell a server what shall go wrong
    Control(control::Arguments),
}

/// Runs the subcommand.
pub(crate) fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Control(arguments) => control::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("connectx3: {error}");
        ExitCode::FAILURE
    })
}
