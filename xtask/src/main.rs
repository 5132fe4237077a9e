//! `cargo xtask`: build, boot, test and measure bareverbs.
//!
//! Where to look: [`commands`] has a file per subcommand. They stand on the library [`rdma_lab`], which makes the guests.

mod cargo;
mod checker;
mod commands;
mod compiler;
mod process;
mod tally;
#[path = "../../src/uapi/mod.rs"]
mod uapi;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rdma_lab::command::{self, BROKEN};
use rdma_lab::{Result, cache, image, installation, packages, progress, vm};

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
    Vm(Box<command::Arguments>),
    /// Compare the declared structures and numbers with the kernel's headers
    Abi,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let set = installation::set(cargo::INSTALLATION);
    let result = set.and_then(|()| match &arguments.command {
        Task::Bench(arguments) => commands::bench::run(arguments),
        Task::Demo(arguments) => commands::demo::run(arguments),
        Task::Test(arguments) => commands::test::run(arguments),
        Task::Vm(arguments) => command::run(arguments, checker::named),
        Task::Abi => commands::abi::run(),
    });
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::from(BROKEN)
    })
}
