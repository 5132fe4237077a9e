//! The `bareverbs` command line.

mod cli;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: cli::pingpong::Args,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse_from(std::env::args_os().skip(2));
    cli::pingpong::rc(&cli.args).unwrap_or_else(|e| {
        eprintln!("bareverbs pingpong rc: {e}");
        std::process::ExitCode::FAILURE
    })
}
