//! `cargo xtask`: build, boot, test and measure bareverbs.
//!
//! Where to look: [`commands`] has a file per subcommand. They stand on the library [`rdma_lab`], which makes the guests.

mod checker;
mod commands;
mod tally;
#[path = "../../src/uapi/mod.rs"]
mod uapi;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rdma_lab::{Result, cache, cargo, image, packages, process, progress, vm};

/// The exit code of a guest or a tool that failed, apart from what a command says.
const BROKEN: u8 = 125;

/// Build, boot, test and measure bareverbs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Bench(commands::bench::Arguments),
    Demo(commands::demo::Arguments),
    Test(commands::test::Arguments),
    Vm(Box<commands::vm::Arguments>),
    /// Compare the declared structures and numbers with the kernel's headers
    Abi,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Task::Bench(arguments) => commands::bench::run(arguments),
        Task::Demo(arguments) => commands::demo::run(arguments),
        Task::Test(arguments) => commands::test::run(arguments),
        Task::Vm(arguments) => commands::vm::run(arguments),
        Task::Abi => commands::abi::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::from(BROKEN)
    })
}
